"""A kit, and what its script measured here."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.lut.kit import FOLDER, SCRIPT, write_kit
from search.lut.workloads import MeasurementPlan, fitting_networks
from supernet.costs.latency_blocks import blocks_of_space
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE

PLAN = MeasurementPlan(SPACE, NUM_KEYPOINTS, fitting_networks(SPACE, 3, seed=0))
BLOCKED = "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'supernet', 'search', 'scipy', 'rich')));"


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked kit."""
    folder = tmp_path_factory.mktemp("kit")
    num_measured = write_kit(folder / "kit.zip", PLAN, 1)
    blocks = blocks_of_space(SPACE, NUM_KEYPOINTS)
    assert num_measured == 1 + len(PLAN.networks) + len(blocks)
    with zipfile.ZipFile(folder / "kit.zip") as archive:
        graphs = [name for name in archive.namelist() if name.endswith(".onnx")]
        assert len(graphs) == 1 + len(PLAN.networks) + len({replace(block, input_size=0) for block in blocks})
        archive.extractall(folder)
    return folder / FOLDER


@pytest.fixture(scope="session")
def measured(kit: Path) -> list[dict[str, Any]]:
    """The lines that the script writes where only onnxruntime and numpy can be imported."""
    code = (
        f"{BLOCKED} import runpy; sys.argv[0] = {str(kit / SCRIPT)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    output = kit.parent / "out.jsonl"
    command = [
        sys.executable,
        "-c",
        code,
        "--threads",
        "1",
        "--rounds",
        "1",
        "--output",
        str(output),
        "--device",
        "board",
    ]
    done = subprocess.run(command, cwd=kit.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in output.read_text().splitlines()]
