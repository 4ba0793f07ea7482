"""The libraries of phones and small boards give the network's maps, and a file that is none is refused by its name."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from subnet_export.deployment.equivalence import check_maps, comparison_images
from subnet_export.deployment.formats import (
    COREML,
    EXECUTORCH,
    FORMATS,
    LITERT,
    LITERT_INT8,
    MNN,
    NCNN,
    ONNX,
    OPENVINO,
)
from subnet_export.deployment.library_runtimes import open_runtime
from subnet_export.deployment.writers import WriterInputs, write_format
from supernet.errors import UserError
from supernet.evaluation.calibration import calibrate
from supernet.litepose import LitePose
from supernet.space import SearchSpace
from tests.helpers.export_formats import require_environment, require_installed

QUICK = (NCNN.name, MNN.name, LITERT.name)
ALL = (*QUICK, LITERT_INT8.name, EXECUTORCH.name)
SIDE = 64


def lively(space: str, seed: int) -> LitePose:
    """Return a calibrated network of a random arch, whose maps are well above zero."""
    torch.manual_seed(seed)
    network = LitePose(SearchSpace.load(space).sample(np.random.default_rng(seed)), 17)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("conv.3.weight"):
                weight.normal_(std=0.1)
    calibrate(network, comparison_images(SIDE))
    return network.eval()


def check(name: str, network: LitePose, folder: Path, takes: str = "uint8") -> None:
    write_format(FORMATS[name], WriterInputs(network, "uint8" if takes == "uint8" else "float32", list), folder)
    check_maps(name, network, open_runtime(folder, FORMATS[name]), comparison_images(SIDE))


def assert_opens_silently(name: str, folder: Path) -> None:
    """Nothing comes to standard output, where a command's data go, and only MNN's greeting to standard error."""
    code = (
        "from pathlib import Path; from subnet_export.deployment.formats import FORMATS; "
        "from subnet_export.deployment.library_runtimes import open_runtime; "
        f"open_runtime(Path({str(folder)!r}), FORMATS[{name!r}]); print('data')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "data\n"
    assert name == MNN.name or not result.stderr


@pytest.mark.parametrize("name", [ONNX.name, OPENVINO.name, *QUICK])
def test_threads_that_share_a_runtime_get_the_maps_of_their_own_images(name: str, tmp_path: Path) -> None:
    require_installed(name)
    write_format(FORMATS[name], WriterInputs(lively("nano", 0), "uint8", list), tmp_path)
    runtime, batches = open_runtime(tmp_path, FORMATS[name]), comparison_images(SIDE)
    expected = [[maps.clone() for maps in runtime(batch)] for batch in batches]

    def run(index: int) -> bool:
        maps = runtime(batches[index])
        return all(torch.allclose(a, b, atol=1e-4) for a, b in zip(expected[index], maps, strict=True))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(run, [n % len(batches) for n in range(60)]))


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("seed", range(2))
def test_random_archs_are_the_same(name: str, seed: int, tmp_path: Path) -> None:
    require_installed(name)
    check(name, lively("nano", seed), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("seed", range(5))
def test_random_archs_of_the_full_space_are_the_same(name: str, seed: int, tmp_path: Path) -> None:
    require_installed(name)
    check(name, lively("litepose", seed), tmp_path)


def test_litert_is_the_same_with_normalised_images(tmp_path: Path) -> None:
    require_installed(LITERT.name)
    check(LITERT.name, lively("nano", 0), tmp_path, "float32")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("space", ["nano", "litepose"])
def test_executorch_is_the_same_and_prints_nothing(space: str, tmp_path: Path) -> None:
    require_installed(EXECUTORCH.name)
    check(EXECUTORCH.name, lively(space, 0), tmp_path)
    assert_opens_silently(EXECUTORCH.name, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_image_above_the_limit_of_an_executorch_file_is_refused(tmp_path: Path) -> None:
    require_installed(EXECUTORCH.name)
    network = lively("nano", 0)
    write_format(EXECUTORCH, WriterInputs(network, "uint8", list, max_side=320), tmp_path)
    runtime = open_runtime(tmp_path, EXECUTORCH)
    low, _ = runtime(torch.zeros(1, 3, 64, 320, dtype=torch.uint8))
    assert low.shape == (1, 34, 16, 80)
    message = r"model\.pte takes images of at most 320 px on each side, an image has 384 x 64 px .* --max-side 384"
    with pytest.raises(UserError, match=message):
        runtime(torch.zeros(1, 3, 64, 384, dtype=torch.uint8))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_core_ml_package_describes_the_network(tmp_path: Path) -> None:
    require_environment(COREML.name)
    network = lively("nano", 0)
    write_format(COREML, WriterInputs(network, "uint8", list), tmp_path)
    assert all((tmp_path / name).stat().st_size for name in COREML.files)


@pytest.mark.parametrize("name", ALL)
def test_a_file_that_is_no_network_is_refused(name: str, tmp_path: Path) -> None:
    require_installed(name)
    for file in FORMATS[name].files:
        (tmp_path / file).write_bytes(b"no network")
    with pytest.raises(UserError, match=FORMATS[name].files[0]):
        open_runtime(tmp_path, FORMATS[name])(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


@pytest.mark.parametrize("name", ALL)
def test_another_precision_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bf16"):
        open_runtime(tmp_path, FORMATS[name], "bf16")


def test_mnn_prints_nothing_to_standard_output(tmp_path: Path) -> None:
    """It greets there, where commands write their data."""
    require_installed(MNN.name)
    write_format(MNN, WriterInputs(lively("nano", 0), "uint8", list), tmp_path)
    assert_opens_silently(MNN.name, tmp_path)


def test_a_converter_that_fails_is_named_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for script, message in (("raise ValueError('no such operator')", "no such operator"), ("", "status 0")):
        converters = tmp_path / message
        converters.mkdir()
        (converters / "to_mnn.py").write_text(script)
        monkeypatch.setattr("subnet_export.deployment.edge_writers.CONVERTERS", converters)
        with pytest.raises(UserError, match=f"converter for format mnn.*{message}"):
            write_format(MNN, WriterInputs(lively("nano", 0), "float32", list), tmp_path)
    assert not (tmp_path / MNN.files[0]).exists()
