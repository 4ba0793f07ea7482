"""A kit measures on a device that has only onnxruntime and numpy, and stays small."""

import subprocess
import venv
from pathlib import Path

import pytest

from search.lut.kit import SCRIPT, write_kit
from search.lut.merge import merge
from search.lut.workloads import MeasurementPlan
from supernet.costs.latency_blocks import blocks_of_space
from supernet.space import SearchSpace
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE


@pytest.mark.slow
def test_the_script_runs_in_a_bare_environment(kit: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime", "numpy"], check=True)
    output = tmp_path / "measurements.jsonl"
    command = [python, str(kit / SCRIPT), "--threads", "1", "--rounds", "2", "--output", str(output)]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert set(merge([output]).entries) == set(blocks_of_space(SPACE, NUM_KEYPOINTS))


@pytest.mark.slow
def test_the_kit_of_the_full_space_stays_small(tmp_path: Path) -> None:
    write_kit(tmp_path / "kit.zip", MeasurementPlan(SearchSpace.load("litepose"), 17), 1)
    assert (tmp_path / "kit.zip").stat().st_size < 20e6
