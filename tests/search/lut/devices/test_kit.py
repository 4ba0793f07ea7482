"""A kit measures on a device that has only a runtime and numpy, and stays small."""

import json
import subprocess
import venv
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from search.lut.devices import benchncnn
from search.lut.devices.kit import FOLDER, PACKAGES, SCRIPT, KitContents, write_kit
from search.lut.devices.merge import merge
from search.lut.workloads import NO_OP, MeasurementPlan, network_key
from supernet.costs.latency_blocks import Deconv, blocks_of_space, key_of
from supernet.errors import UserError
from supernet.space import SearchSpace
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE
from tests.search.lut.devices.conftest import PLAN, measured_by

BLOCKS = blocks_of_space(SPACE, NUM_KEYPOINTS)


@pytest.mark.parametrize("runtime", PACKAGES)
def test_a_kit_holds_each_graph_once_and_measures_all_with_its_library(
    runtime: str, make_kit: Callable[..., Path], tmp_path: Path
) -> None:
    kit = make_kit(runtime=runtime)
    graphs = json.loads((kit / "manifest.json").read_text())["graphs"]
    networks = [network_key(arch) for arch in PLAN.networks]
    assert set(graphs) == {NO_OP, *networks, *map(key_of, BLOCKS)}
    suffix = {"onnxruntime": "onnx", "ncnn": "param", "mnn": "mnn", "litert": "tflite"}[runtime]
    keeps_size = Deconv if runtime == "litert" else ()
    num_shapes = len({block if isinstance(block, keeps_size) else replace(block, input_size=0) for block in BLOCKS})
    assert len(list(kit.glob(f"graphs/*.{suffix}"))) == 1 + len(networks) + num_shapes
    header, *visits = measured_by(kit)
    assert header["settings"]["runtime"] == runtime
    assert {visit["subject"] for visit in visits} == set(graphs)
    (tmp_path / "out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [header, *visits]))
    assert set(merge([tmp_path / "out.jsonl"]).entries) == set(BLOCKS)


def test_a_kit_of_networks_leaves_the_blocks_out(make_kit: Callable[..., Path]) -> None:
    kit = make_kit(runtime="ncnn", only_networks=True)
    graphs = json.loads((kit / "manifest.json").read_text())["graphs"]
    assert set(graphs) == {NO_OP, *(network_key(arch) for arch in PLAN.networks)}
    assert "transfer" in (kit / "README.txt").read_text()


@pytest.mark.parametrize("batch", [1, 2])
def test_only_a_kit_of_single_images_can_be_measured_by_the_benchmark_of_ncnn(batch: int, tmp_path: Path) -> None:
    write_kit(tmp_path / "kit.zip", KitContents(PLAN, "ncnn", batch, only_networks=True))
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        assert (f"{FOLDER}/{benchncnn.SCRIPT}" in archive.namelist()) == (batch == 1)


def test_equal_kits_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("first.zip", "second.zip"):
        write_kit(tmp_path / name, KitContents(PLAN, "ncnn"))
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_a_kit_for_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'executorch'"):
        write_kit(tmp_path / "kit.zip", KitContents(PLAN, "executorch"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("runtime", PACKAGES)
def test_the_script_runs_in_a_bare_environment(runtime: str, make_kit: Callable[..., Path], tmp_path: Path) -> None:
    kit = make_kit(runtime=runtime)
    venv.create(tmp_path / "bare", with_pip=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", PACKAGES[runtime], "numpy"], check=True)
    output = tmp_path / "measurements.jsonl"
    command = [python, str(kit / SCRIPT), "--threads", "1", "--rounds", "2", "--output", str(output)]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert set(merge([output]).entries) == set(BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", PACKAGES)
def test_the_kit_of_the_full_space_stays_small(runtime: str, tmp_path: Path) -> None:
    write_kit(tmp_path / "kit.zip", KitContents(MeasurementPlan(SearchSpace.load("litepose"), 17), runtime))
    assert (tmp_path / "kit.zip").stat().st_size < 20e6
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        assert sum(info.file_size for info in archive.infolist()) < 1e9
