"""ONNX Runtime and OpenVINO give the network's maps for any arch, image size and batch; differences are errors."""

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from subnet_export.deployment.deployed_network import DeploymentNetwork, Input
from subnet_export.deployment.equivalence import Difference, check_maps, comparison_images, differences
from subnet_export.deployment.formats import ONNX, OPENVINO
from subnet_export.deployment.graphs.onnx_graph import onnx_graph
from subnet_export.deployment.library_runtimes import open_runtime
from subnet_export.deployment.runtimes import Runtime, TorchRuntime
from subnet_export.deployment.writers import WriterInputs, write_format
from subnet_export.exported_model import ExportedModel
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.evaluation.calibration import calibrate
from supernet.litepose import LitePose
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

GOLDEN = Path(__file__).parents[2] / "golden"
SIDE = 64
"""Small, for speed; the networks are fully convolutional."""


def runtimes(network: LitePose, folder: Path, takes: Input = "uint8") -> dict[str, Runtime]:
    """Write the network as ONNX and OpenVINO files and open them."""
    inputs = WriterInputs(network, takes, list)
    for chosen in (ONNX, OPENVINO):
        write_format(chosen, inputs, folder)
    return {chosen.name: open_runtime(folder, chosen) for chosen in (ONNX, OPENVINO)}


def check_all(network: LitePose, folder: Path, takes: Input = "uint8") -> None:
    for name, runtime in runtimes(network, folder, takes).items():
        check_maps(name, network, runtime, comparison_images(SIDE))


def published(name: str) -> Arch:
    entries = json.loads((GOLDEN / "costs.json").read_text())
    return next(Arch.from_dict(entry["arch"]) for entry in entries if entry["name"] == name)


def calibrated(network: LitePose) -> LitePose:
    """Calibrate the network on built-in people, with weights that give maps well above zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("conv.3.weight"):
                weight.normal_(std=0.1, generator=generator)
    calibrate(network, comparison_images(SIDE))
    return network


@pytest.fixture(scope="module")
def nano() -> SuperNet:
    torch.manual_seed(0)
    return SuperNet(SearchSpace.load("nano"), 17).eval()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("takes", ["uint8", "float32"])
def test_random_archs_are_the_same_in_every_library(nano: SuperNet, seed: int, takes: Input, tmp_path: Path) -> None:
    check_all(calibrated(nano.extract(nano.space.sample(np.random.default_rng(seed)))), tmp_path, takes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_archs_of_the_full_space_are_the_same(seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    arch = SearchSpace.load("litepose").sample(np.random.default_rng(seed))
    check_all(calibrated(LitePose(arch, 14)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_onnx_gives_the_maps_of_every_batch_and_size(seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    network = calibrated(LitePose(SearchSpace.load("nano").sample(np.random.default_rng(seed)), 14))
    graph = onnx_graph(DeploymentNetwork(network, "float32"))
    onnx.checker.check_model(graph, full_check=True)
    (tmp_path / ONNX.files[0]).write_bytes(graph.SerializeToString())
    runtime = open_runtime(tmp_path, ONNX)
    generator = torch.Generator().manual_seed(seed)
    for batch in (1, 4):
        for height, width in ((64, 64), (96, 128)):
            images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)
            for maps, expected in zip(runtime(images), TorchRuntime(network)(images), strict=True):
                difference = (maps - expected).abs()
                assert difference.max() <= 1e-5 * max(1.0, float(expected.abs().max()))
                assert difference.norm() <= 1e-4 * expected.norm()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["search-XS", "search-S", "search-M", "search-L"])
def test_the_published_archs_are_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    check_all(calibrated(LitePose(published(name), 17)), tmp_path)


def test_images_to_compare_on_are_of_several_shapes() -> None:
    batches = comparison_images(128)
    assert [tuple(batch.shape) for batch in batches] == [(1, 3, 128, 128), (2, 3, 128, 192), (3, 3, 112, 64)]
    assert {batch.dtype for batch in batches} == {torch.uint8}
    assert all(batch.float().std() > 10 for batch in batches)


class Changed:
    """A runtime that gives the maps of ``network`` with one change."""

    library, precision = "test", "f32"

    def __init__(self, network: LitePose, change: str) -> None:
        self.runtime, self.change = TorchRuntime(network), change

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.runtime(images)
        low, high = low.clone(), high.clone()
        if self.change == "one value" and len(images) == 2:
            high[1, 3, 5, 7] += 0.01 * high.std()
        if self.change == "everywhere" and len(images) == 3:
            low += 0.001 * low.std()
        if self.change == "not finite":
            low[0, 0, 0, 0] = torch.nan
        if self.change == "shape":
            low = low[..., 1:]
        return low, high


@pytest.mark.parametrize(
    ("change", "error", "shape"),
    [
        ("one value", "largest 0.01)", "(2, 3, 64, 128)"),
        ("everywhere", "by 0.001 standard", "(3, 3, 112, 64)"),
        ("not finite", "by inf standard", "(1, 3, 64, 64)"),
        ("shape", "by inf standard", "(1, 3, 64, 64)"),
    ],
)
def test_maps_that_differ_anywhere_are_refused(
    change: str, error: str, shape: str, exported: tuple[ExportedModel, Path]
) -> None:
    network = exported[0].network
    assert differences(network, TorchRuntime(network), comparison_images(SIDE)) == [Difference(0, 0)] * 3
    with pytest.raises(UserError) as caught:
        check_maps("onnx", network, Changed(network, change), comparison_images(SIDE))
    assert "maps of format onnx differ" in str(caught.value)
    assert error in str(caught.value)
    assert f"shape {shape}" in str(caught.value)


def test_other_weights_are_refused(exported: tuple[ExportedModel, Path], tmp_path: Path) -> None:
    network = exported[0].network
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.get_parameter("stage.3.0.depth_conv.0.weight").mul_(1.01)
    for runtime in runtimes(other, tmp_path).values():
        with pytest.raises(UserError, match="maps of format onnx differ"):
            check_maps("onnx", network, runtime, comparison_images(SIDE))
