"""New heads: a network with the same features whose last layers predict another keypoint set."""

from collections.abc import Sequence

import torch

from supernet.litepose import LAST_LAYERS, LitePose, in_channels_last, rows_of_keypoints


def with_new_heads(network: LitePose, sources: Sequence[int | None], seed: int) -> LitePose:
    """Return a copy of ``network`` that predicts other keypoints.

    Only the last 1x1 convolutions differ between keypoint sets. A keypoint that the network predicted keeps its rows of
    weights there (of heatmaps and of tags); the others start at random. All other weights and statistics are kept.

    Args:
        network: Not changed.
        sources: For each keypoint that the copy will predict, its index among those of ``network``, or None.
        seed: Seed of the random weights.

    Returns:
        The network on the same device and in evaluation mode.
    """
    state = network.state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = LitePose(network.arch, len(sources))
    fresh = changed.state_dict()
    for name in LAST_LAYERS:
        weight = fresh[name].to(state[name].device)
        for own, other in rows_of_keypoints(name, sources, network.num_keypoints):
            weight[own] = state[name][other]
        state[name] = weight
    changed.load_state_dict(state)
    in_channels_last(changed)
    device = next(network.parameters()).device
    return changed.to(device).eval()
