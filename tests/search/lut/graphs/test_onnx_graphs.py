"""The measured graphs compute the deployed network, and its blocks add up to it."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from search.cost import macs, params
from search.lut.graphs.inputs import random_weights
from search.lut.graphs.onnx_graphs import graph_of
from search.lut.graphs.torch_blocks import torch_block
from subnet_export.benchmarking.targets import random_network
from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.runtimes import onnx_session
from supernet.arch import Arch
from supernet.costs.latency_blocks import blocks_of
from supernet.litepose import LitePose, normalisation_layers
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE

ARCH = SPACE.sample(np.random.default_rng(3))


def test_the_graph_of_a_network_computes_what_the_deployed_one_does() -> None:
    deployed = DeploymentNetwork(random_network(ARCH, NUM_KEYPOINTS))
    state = deployed.network.state_dict()

    def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
        weight: np.ndarray = state.pop(name).numpy()
        assert weight.shape == shape, name
        return weight

    model = graph_of(ARCH, NUM_KEYPOINTS, weights)
    assert not state  # every weight has its place
    side = ARCH.resolution
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    results = onnx_session(model.SerializeToString(), 1).run(["low", "high"], {"images": images})
    for maps, expected in zip(results, deployed(torch.from_numpy(images)), strict=True):
        np.testing.assert_allclose(maps, expected.numpy(), rtol=1e-4, atol=1e-5)


def num_weights(graphs: list[object]) -> int:
    from onnx import numpy_helper

    unlearnt = ("mean", "deviation", "lowest", "highest")
    tensors = [tensor for graph in graphs for tensor in graph.graph.initializer]  # type: ignore[attr-defined]
    return sum(numpy_helper.to_array(tensor).size for tensor in tensors if tensor.name not in unlearnt)


@pytest.mark.parametrize("arch", [ARCH, SPACE.largest()], ids=["random", "largest"])
def test_blocks_make_up_the_network_without_remainder(arch: Arch) -> None:
    blocks, weights = blocks_of(arch, NUM_KEYPOINTS), random_weights()
    whole = num_weights([graph_of(arch, NUM_KEYPOINTS, weights)])
    assert num_weights([graph_of(block, NUM_KEYPOINTS, weights) for block in blocks]) == whole
    # Folding leaves one number of each pair that batch norm has.
    norms = normalisation_layers(LitePose(arch, NUM_KEYPOINTS))
    assert whole == params(arch, NUM_KEYPOINTS) - sum(norm.num_features for norm in norms)
    with FlopCounterMode(display=False) as counter:
        for block in blocks:
            module, shapes = torch_block(block, NUM_KEYPOINTS, 1)
            module(*(torch.zeros(shape) for shape in shapes))
    assert counter.get_total_flops() // 2 == macs(arch, NUM_KEYPOINTS)
