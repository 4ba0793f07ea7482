"""Kits, and what their scripts measured here."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.lut.devices.kit import FOLDER, SCRIPT, KitContents, write_kit
from search.lut.workloads import MeasurementPlan, fitting_networks
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE

PLAN = MeasurementPlan(SPACE, NUM_KEYPOINTS, fitting_networks(SPACE, 3, seed=0))
BLOCKED = "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'supernet', 'search', 'scipy', 'rich')));"
"""Code after which only a runtime and numpy can be imported."""

Json = dict[str, Any]


def measured_by(kit: Path) -> list[Json]:
    """Run the script of a kit once and return the lines that it writes."""
    code = (
        f"{BLOCKED} import runpy; sys.argv[0] = {str(kit / SCRIPT)!r}; sys.path.insert(0, {str(kit)!r}); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    output = kit.parent / "out.jsonl"
    options = ["--threads", "1", "--rounds", "1", "--output", str(output), "--device", "board"]
    command = [sys.executable, "-c", code, *options]
    done = subprocess.run(command, cwd=kit.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in output.read_text().splitlines()]


@pytest.fixture(scope="session")
def make_kit(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that unpacks a new kit with the given contents, and returns its folder; ``kit.zip`` is beside it."""

    def make(**contents: Any) -> Path:
        folder = tmp_path_factory.mktemp("kit")
        write_kit(folder / "kit.zip", KitContents(PLAN, **contents))
        with zipfile.ZipFile(folder / "kit.zip") as archive:
            archive.extractall(folder)
        return folder / FOLDER

    return make


@pytest.fixture(scope="session")
def kit(make_kit: Callable[..., Path]) -> Path:
    """An unpacked kit for ONNX Runtime."""
    return make_kit()


@pytest.fixture(scope="session")
def measured(kit: Path) -> list[Json]:
    """The lines that the script writes where only onnxruntime and numpy can be imported."""
    return measured_by(kit)
