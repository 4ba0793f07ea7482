"""The output of ncnn's benchmark becomes measurements; what is no such output is refused."""

import json
import math
import os
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.lut.devices import benchncnn
from search.lut.devices.benchncnn import LEAST_MS, measurements
from search.lut.devices.merge import merge
from search.lut.workloads import NO_OP
from supernet.costs.latency_blocks import blocks_of_space, key_of
from supernet.errors import UserError
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE

BLOCKS = blocks_of_space(SPACE, NUM_KEYPOINTS)
PROGRAM = """#!/bin/sh
# Prints what benchncnn prints for a network of its user, as of its release 20240820, with the number of its call.
echo "$6 $7" >> calls.txt
test -f "${6#param=}" || { echo "fopen ${6#param=} failed" >&2; exit 1; }
calls=$(wc -l < calls.txt)
{
    echo "loop_count = $1"
    echo "num_threads = $2"
    echo "powersave = $3"
    echo "gpu_device = $4"
    echo "cooling_down = $5"
    printf '%20s  min = %7.2f  max = %7.2f  avg = %7.2f\\n' "${6#param=}" "$calls" "$calls" "$calls.25"
} >&2
"""


@pytest.fixture(scope="session")
def kit(make_kit: Callable[..., Path]) -> Path:
    """An unpacked kit for ncnn."""
    return make_kit(runtime="ncnn")


@pytest.fixture
def output(kit: Path, tmp_path: Path) -> Path:
    """What the script of the kit prints in two rounds where a program prints like benchncnn."""
    program = kit / "benchncnn"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    (kit / "calls.txt").unlink(missing_ok=True)
    printed = subprocess.run(
        ["sh", str(kit / benchncnn.SCRIPT), "3", "2"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    path = tmp_path / "output.txt"
    path.write_text(printed)
    return path


def test_each_graph_is_measured_at_its_own_size(kit: Path, output: Path) -> None:
    calls = (kit / "calls.txt").read_text().splitlines()
    graphs = json.loads((kit / "manifest.json").read_text())["graphs"]
    assert len(calls) == 2 * len(graphs)
    for call, (name, graph) in zip(calls, graphs.items(), strict=False):
        shapes = [[width, height, channels] for _, channels, height, width in graph["inputs"]]
        assert call == f"param=graphs/{graph['file']} shape={','.join(map(str, shapes))}".replace(", ", ","), name


def test_the_kit_may_come_through_a_pipe(kit: Path, output: Path, tmp_path: Path) -> None:
    path = kit.parent / "kit.zip"
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert measurements(Path(f"/dev/fd/{program.stdout.fileno()}"), [output]) == measurements(path, [output])
    os.mkfifo(tmp_path / "pipe")  # into which nothing is written
    with pytest.raises(UserError, match="pipe is not a kit"):
        measurements(tmp_path / "pipe", [output])


def test_what_it_prints_becomes_a_table(kit: Path, output: Path, tmp_path: Path) -> None:
    text = measurements(kit.parent / "kit.zip", [output])
    header, *visits = map(json.loads, text.splitlines())
    names = list(json.loads((kit / "manifest.json").read_text())["graphs"])
    expected = [(n // len(names), names[n % len(names)], [n + 1.25]) for n in range(2 * len(names))]
    assert [(visit["round"], visit["subject"], visit["ms"]) for visit in visits] == expected
    assert header["settings"]["runtime_version"] == "benchncnn"
    assert (header["settings"]["threads"], header["settings"]["batch"]) == (3, 1)
    assert header["settings"]["precision"] in ("f16", "f32")
    (tmp_path / "measurements.jsonl").write_text(text)
    table = merge([tmp_path / "measurements.jsonl"])
    assert set(table.entries) == set(BLOCKS)
    assert table.entries[BLOCKS[0]].p50_ms == names.index(key_of(BLOCKS[0])) + 1.25 + len(names) / 2


def test_a_latency_below_the_resolution_is_half_of_it(kit: Path, output: Path) -> None:
    output.write_text(output.read_text().replace("avg =    1.25", "avg =    0.00"))
    first = json.loads(measurements(kit.parent / "kit.zip", [output]).splitlines()[1])
    assert (first["subject"], first["ms"]) == (NO_OP, [LEAST_MS])


def test_rounds_of_several_outputs_are_taken_together(kit: Path, output: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(output.read_text().replace(".25\n", ".75\n"))
    with pytest.raises(UserError, match="repeats the visits"):
        measurements(kit.parent / "kit.zip", [output, output])
    text = measurements(kit.parent / "kit.zip", [output, other])
    rounds = [json.loads(line)["round"] for line in text.splitlines()[1:]]
    assert [rounds.count(number) for number in range(4)] == [len(rounds) // 4] * 4


def test_a_graph_without_figures_is_left_out_and_missed_by_merge(kit: Path, output: Path, tmp_path: Path) -> None:
    broken = "\n".join(line for line in output.read_text().splitlines() if "00003.param" not in line)
    output.write_text(broken + "\n")
    (tmp_path / "measurements.jsonl").write_text(measurements(kit.parent / "kit.zip", [output]))
    with pytest.raises(UserError, match="were not measured"):
        merge([tmp_path / "measurements.jsonl"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda text: "", "is not the output of"),
        (lambda text: text.replace("kit ", "kit 0", 1), "is not the output of"),
        (lambda text: text.replace("num_threads", "threads"), "num_threads"),
        (lambda text: text.replace("num_threads = 3", "num_threads = many"), "num_threads"),
        (lambda text: text.replace("num_threads = 3", f"num_threads = {'3' * 5000}"), "num_threads"),
        (lambda text: text.replace("device ", "", 1), "device"),
        (lambda text: text.replace("graph 0 1\n", "graph 0 100000\n"), "graph 100000"),
        (lambda text: text.replace("avg =    1.25", "avg =    1.2.5"), "avg ="),
        (lambda text: text.replace("avg =    1.25", f"avg = {'9' * 400}"), "avg ="),
    ],
)
def test_what_is_no_output_of_the_kit_is_refused(
    change: Callable[[str], str], named: str, kit: Path, output: Path
) -> None:
    output.write_text(change(output.read_text()))
    with pytest.raises(UserError, match=named):
        measurements(kit.parent / "kit.zip", [output])


@pytest.mark.parametrize("setting", ["num_threads", "powersave"])
def test_outputs_of_two_devices_or_settings_are_not_mixed(
    setting: str, kit: Path, output: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(re.sub(rf"{setting} = \d", f"{setting} = 4", output.read_text()))
    with pytest.raises(UserError, match=r"other\.txt differs"):
        measurements(kit.parent / "kit.zip", [output, other])


def test_what_is_no_kit_for_ncnn_is_refused(make_kit: Callable[..., Path], output: Path, tmp_path: Path) -> None:
    (tmp_path / "kit.zip").write_bytes(os.urandom(100))
    for kit in (tmp_path / "kit.zip", make_kit().parent / "kit.zip"):
        with pytest.raises(UserError, match="is not a kit for ncnn"):
            measurements(kit, [output])
    with pytest.raises(UserError, match="cannot read kit"):
        measurements(tmp_path / "nowhere.zip", [output])


@pytest.mark.parametrize(
    "change", [{"graphs": []}, {"graphs": {"empty": {}}}, {"header": []}, {"header": {"a": math.nan}}]
)
def test_a_kit_with_another_manifest_is_refused(
    change: dict[str, Any], kit: Path, output: Path, tmp_path: Path
) -> None:
    manifest = {**json.loads((kit / "manifest.json").read_text()), **change}
    with zipfile.ZipFile(tmp_path / "kit.zip", "w") as archive:
        archive.writestr("latency_kit/manifest.json", json.dumps(manifest))
    with pytest.raises(UserError, match="is not a kit for ncnn"):
        measurements(tmp_path / "kit.zip", [output])
