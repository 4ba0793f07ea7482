"""The measured ExecuTorch files have the XNNPACK nodes of exports, and compute what the network does."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from search.lut import runtimes
from search.lut.graphs.executorch_graphs import program_of, shapes_of
from search.lut.graphs.inputs import random_weights
from search.lut.graphs.onnx_graphs import graph_of
from search.lut.runtimes import open_runtime
from search.lut.workloads import Workload
from subnet_export.benchmarking.targets import random_network
from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.edge_runtimes import ExecuTorchProgram
from subnet_export.deployment.runtimes import onnx_session
from supernet.arch import Arch
from supernet.costs.latency_blocks import PredictionHead, Stem, blocks_of, kind_of
from supernet.errors import UserError
from supernet.litepose import LitePose
from tests.helpers.export_formats import require_installed
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE

pytestmark = pytest.mark.slow  # executorch is not among the packages of the ordinary tests
ARCH = SPACE.sample(np.random.default_rng(3))
BLOCKS = {kind_of(block): block for block in blocks_of(ARCH, NUM_KEYPOINTS)}
WEIGHTS = random_weights()


@pytest.fixture(autouse=True)
def _installed() -> None:
    require_installed("executorch")


def file_with_weights_of(network: LitePose) -> bytes:
    state = DeploymentNetwork(network).network.state_dict()

    def weights(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        weight: npt.NDArray[np.float32] = state.pop(name).numpy()
        assert weight.shape == shape, name
        return weight

    content = program_of(network.arch, NUM_KEYPOINTS, weights)
    assert not state  # every weight has its place
    return content


@contextmanager
def recorded_graphs() -> Iterator[list[Any]]:
    """Collect every XNNPACK graph that is written meanwhile."""
    from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize

    graphs: list[Any] = []
    original = xnnpack_graph_serialize.convert_to_flatbuffer

    def convert_to_flatbuffer(graph: Any) -> Any:
        graphs.append(graph)
        return original(graph)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xnnpack_graph_serialize, "convert_to_flatbuffer", convert_to_flatbuffer)
        yield graphs


def nodes(graph: Any, is_sized: bool = True) -> Counter[tuple[Any, ...]]:
    """Kind, options, limits and (``is_sized``) sizes of all inputs and outputs of every node."""
    sizes = {value.xvalue_union.id_out: tuple(value.xvalue_union.dims) for value in graph.xvalues}

    def entry(node: Any) -> tuple[Any, ...]:
        options = vars(node.xnode_union)
        limits = node.output_min_max and (float(node.output_min_max.output_min), float(node.output_min_max.output_max))
        kept = tuple(sorted((key, str(value)) for key, value in options.items() if not key.endswith("_id")))
        ends = tuple(sorted((key, sizes.get(value)) for key, value in options.items() if key.endswith("_id")))
        return type(node.xnode_union).__name__, kept, limits, ends if is_sized else ()

    return Counter(map(entry, graph.xnodes))


def nodes_of(workload: Workload, is_sized: bool = True) -> Counter[tuple[Any, ...]]:
    with recorded_graphs() as graphs:
        program_of(workload, NUM_KEYPOINTS, WEIGHTS)
    (graph,) = graphs
    return nodes(graph, is_sized)


@pytest.mark.parametrize("shape", [(ARCH.resolution, ARCH.resolution), (64, 96)])
def test_the_file_of_a_network_computes_what_the_deployed_one_does(shape: tuple[int, int]) -> None:
    network = random_network(ARCH, NUM_KEYPOINTS)
    images = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    results = ExecuTorchProgram(file_with_weights_of(network), 1)([images])
    expected = DeploymentNetwork(network, "float32")(images)
    for maps, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(maps, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [16, 24])
@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_compute_what_those_of_onnx_do(kind: str, size: int) -> None:
    block = replace(BLOCKS[kind], input_size=size)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator) for shape in shapes_of(block)]
    program = ExecuTorchProgram(program_of(block, NUM_KEYPOINTS, WEIGHTS), 1)
    (found,) = program(inputs, copies=False)

    def channels_first(maps: Tensor) -> Tensor:
        return maps.permute(0, 3, 1, 2)

    maps = inputs if isinstance(block, Stem) else [channels_first(values) for values in inputs]
    session = onnx_session(graph_of(block, NUM_KEYPOINTS, WEIGHTS, "float32").SerializeToString(), 1)
    names = [entry.name for entry in session.get_inputs()]
    (expected,) = session.run(None, {name: values.numpy() for name, values in zip(names, maps, strict=True)})
    results = (found if isinstance(block, PredictionHead) else channels_first(found)).numpy()
    np.testing.assert_allclose(results, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("arch", [ARCH, SPACE.largest()], ids=["random", "largest"])
def test_blocks_make_up_the_network(arch: Arch) -> None:
    rest = nodes_of(arch, is_sized=False)
    for block in blocks_of(arch, NUM_KEYPOINTS):
        rest.subtract(nodes_of(block, is_sized=False))
    assert not any(rest.values())


def test_blocks_have_their_own_sizes() -> None:
    sizes = {name: nodes_of(block) for name, block in BLOCKS.items()}
    for name, block in BLOCKS.items():
        assert sizes[name] != nodes_of(replace(block, input_size=2 * block.input_size))


def test_a_network_has_the_nodes_of_its_export(tmp_path: Path) -> None:
    from subnet_export.deployment.converters.to_executorch import main as convert

    network = random_network(ARCH, NUM_KEYPOINTS)
    source, side = tmp_path / "network.pt2", ARCH.resolution
    torch.export.save(
        torch.export.export(DeploymentNetwork(network, "float32"), (torch.zeros(1, 3, side, side),)), source
    )
    with recorded_graphs() as graphs:
        convert(str(source), str(tmp_path / "model.pte"), str(side))
    (exported,) = graphs
    assert nodes(exported) == nodes_of(ARCH)


def test_a_version_that_writes_files_otherwise_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def program_of_another_version(*_: object) -> bytes:
        raise TypeError("Program() got an unexpected keyword argument")

    monkeypatch.setattr(runtimes, "program_of", program_of_another_version)
    with pytest.raises(
        UserError, match=r"executorch .* cannot write files of blocks \(Program\(\) got .*\); install 1"
    ):
        open_runtime("executorch", "f32", 1, 1, NUM_KEYPOINTS, torch.device("cpu"))
