"""The measured LiteRT files compute what the network and its blocks do."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from search.lut.graphs.inputs import channels_last, input_shapes, random_weights
from search.lut.graphs.litert_graphs import model_of
from search.lut.graphs.onnx_graphs import graph_of
from search.lut.libraries import LiteRtLibrary
from subnet_export.benchmarking.targets import random_network
from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.runtimes import onnx_session
from supernet.arch import Arch
from supernet.costs.latency_blocks import Deconv, Stem, blocks_of, kind_of
from supernet.litepose import LitePose
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE
from tests.helpers.litert_files import operators

ARCH = SPACE.sample(np.random.default_rng(3))
BLOCKS = {kind_of(block): block for block in blocks_of(ARCH, NUM_KEYPOINTS)}
WEIGHTS = random_weights()


def file_with_weights_of(network: LitePose, batch: int) -> bytes:
    state = DeploymentNetwork(network).network.state_dict()

    def weights(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        weight: npt.NDArray[np.float32] = state.pop(name).numpy()
        assert weight.shape == shape, name
        return weight

    content = model_of(network.arch, NUM_KEYPOINTS, batch, weights)
    assert not state  # every weight has its place
    return content


def test_the_file_of_a_network_computes_what_the_deployed_one_does() -> None:
    from ai_edge_litert.interpreter import Interpreter

    network, side = random_network(ARCH, NUM_KEYPOINTS), ARCH.resolution
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    opened = Interpreter(model_content=file_with_weights_of(network, 2), num_threads=1)
    results = opened.get_signature_runner()(images=images)
    expected = DeploymentNetwork(network)(torch.from_numpy(images))
    for name, maps in zip(("low", "high"), expected, strict=True):
        np.testing.assert_allclose(results[name], maps.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [16, 24])
@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_compute_at_every_size_what_those_of_onnx_do(kind: str, size: int) -> None:
    block, library = replace(BLOCKS[kind], input_size=size), LiteRtLibrary(1)
    opened = library.open_content(model_of(block, NUM_KEYPOINTS, 1, WEIGHTS))
    run = library.runner(opened, [channels_last(shape) for shape in input_shapes(block, 1)])
    places = [entry["index"] for entry in opened.get_input_details()]
    rng = np.random.default_rng(0)
    values = [opened.get_tensor(place) for place in places]
    values = [rng.integers(0, 256, maps.shape).astype(maps.dtype) for maps in values]
    for place, maps in zip(places, values, strict=True):
        opened.set_tensor(place, maps)
    opened.invoke()
    found = opened.get_tensor(opened.get_output_details()[0]["index"])
    session = onnx_session(graph_of(block, NUM_KEYPOINTS, WEIGHTS).SerializeToString(), 1)
    inputs = values if isinstance(block, Stem) else [maps.transpose(0, 3, 1, 2) for maps in values]
    names = [entry.name for entry in session.get_inputs()]
    (expected,) = session.run(None, dict(zip(names, inputs, strict=True)))
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    results: Any = run()
    assert [maps.shape for maps in results] == [found.shape]


@pytest.mark.parametrize("arch", [ARCH, SPACE.largest()], ids=["random", "largest"])
def test_blocks_make_up_the_network_without_remainder(arch: Arch) -> None:
    def kinds(workload: Any) -> Counter[tuple[Any, ...]]:
        return Counter(entry[:2] for entry in operators(model_of(workload, NUM_KEYPOINTS, 1, WEIGHTS)))

    rest = kinds(arch)
    for block in blocks_of(arch, NUM_KEYPOINTS):
        rest.subtract(kinds(block))
    assert {kind: num for (kind, _), num in rest.items() if num} == {"TRANSPOSE 1": 2}  # of the outputs


def test_blocks_that_differ_only_in_size_share_a_file_unless_it_holds_the_size() -> None:
    for block in BLOCKS.values():
        larger = replace(block, input_size=2 * block.input_size)
        is_same = model_of(block, NUM_KEYPOINTS, 1, WEIGHTS) == model_of(larger, NUM_KEYPOINTS, 1, WEIGHTS)
        assert is_same != isinstance(block, Deconv)
