"""New heads: a network with the same features whose last layers predict another keypoint set."""

import torch

from supernet.litepose import LitePose, in_channels_last
from supernet.pose.keypoints import KeypointSet

_LAST_LAYERS = {"final_refined.0": 2, "final_raw.0": 2, "final_refined.1": 1, "final_raw.1": 1}
"""Prediction layers with their maps per keypoint: heatmaps then tags, or heatmaps only."""


def with_new_heads(network: LitePose, old: KeypointSet, new: KeypointSet, seed: int) -> tuple[LitePose, list[str]]:
    """Return a copy of ``network`` that predicts the keypoints of ``new``, and the names it predicted already.

    Only the last 1x1 convolutions differ between keypoint sets. A keypoint of the same name in both keeps its rows of
    weights there (of heatmaps and of tags); the others start at random. All other weights and statistics are kept.

    Args:
        network: Predicts the keypoints of ``old``; not changed.
        old: The keypoints that it predicts.
        new: The keypoints that the copy will predict.
        seed: Seed of the random weights.

    Returns:
        The network on the same device and in evaluation mode, and the names that keep their rows.
    """
    state = network.state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = LitePose(network.arch, new.num)
    kept = [name for name in new.names if name in old.names]
    fresh = changed.state_dict()
    for layer, maps in _LAST_LAYERS.items():
        name = f"{layer}.conv.3.weight"
        weight = fresh[name].to(state[name].device)
        for block in range(maps):
            for keypoint in kept:
                to, source = new.names.index(keypoint), old.names.index(keypoint)
                weight[block * new.num + to] = state[name][block * old.num + source]
        state[name] = weight
    changed.load_state_dict(state)
    in_channels_last(changed)
    device = next(network.parameters()).device
    return changed.to(device).eval(), kept
