"""A kit measures on a device with onnxruntime and numpy alone, and what comes back is checked."""

import json
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.lut.build import fitting_networks
from search.lut.kit import FOLDER, SCRIPT, write_kit
from search.lut.merge import merge
from supernet.costs.latency_blocks import blocks_of_space
from supernet.errors import UserError
from supernet.space import SearchSpace
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE

Json = dict[str, Any]
NETWORKS = fitting_networks(SPACE, 3, seed=0)
BLOCKED = "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'supernet', 'search', 'scipy', 'rich')));"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked kit."""
    folder = tmp_path_factory.mktemp("kit")
    num_measured = write_kit(folder / "kit.zip", SPACE, NUM_KEYPOINTS, NETWORKS, 1)
    blocks = blocks_of_space(SPACE, NUM_KEYPOINTS)
    assert num_measured == 1 + len(NETWORKS) + len(blocks)
    with zipfile.ZipFile(folder / "kit.zip") as archive:
        graphs = [name for name in archive.namelist() if name.endswith(".onnx")]
        assert len(graphs) == 1 + len(NETWORKS) + len({replace(block, input_size=0) for block in blocks})
        archive.extractall(folder)
    return folder / FOLDER


@pytest.fixture(scope="module")
def measured(kit: Path) -> list[Json]:
    """The lines of what the script writes, which is run where nothing but onnxruntime and numpy can be imported."""
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


def written(lines: list[Json], path: Path) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_what_comes_back_becomes_a_table(measured: list[Json], tmp_path: Path) -> None:
    table = merge([written(measured, tmp_path / "out.jsonl")])
    assert set(table.entries) == set(blocks_of_space(SPACE, NUM_KEYPOINTS))
    assert (table.settings.device, table.settings.threads, table.settings.batch) == ("board", 1, 1)
    assert (table.space, table.num_keypoints) == (SPACE, NUM_KEYPOINTS)
    assert [each.arch for each in table.networks] == NETWORKS
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.write(tmp_path / "out.jsonl", "back/out.jsonl")
    assert merge([tmp_path / "out.zip"]).to_dict() == table.to_dict()


def test_rounds_of_several_files_are_taken_together(measured: list[Json], tmp_path: Path) -> None:
    paths = [written(measured, tmp_path / f"{i}.jsonl") for i in range(3)]
    one, three = merge(paths[:1]), merge(paths)
    for block, entry in one.entries.items():
        assert three.entries[block].runs == 3 * entry.runs
        assert three.entries[block].p50_ms == entry.p50_ms


def of_header(**fields: Any) -> Callable[[list[Json]], None]:
    return lambda lines: lines[0].update(fields)


def of_visit(**fields: Any) -> Callable[[list[Json]], None]:
    return lambda lines: lines[4].update(fields)


FAULTS: dict[str, tuple[Callable[[list[Json]], object], str]] = {
    "unit": (of_header(unit="us"), "unit is 'us'"),
    "version": (of_header(version=7), "version is 7"),
    "keypoints": (of_header(num_keypoints=17), "subject is 'prediction .*', which the space listed does not have"),
    "space": (of_header(space_digest="ab"), "space_digest is 'ab'"),
    "networks": (of_header(networks=[{}]), r"networks\[0\]: the arch lacks"),
    "threads": (lambda lines: lines[0]["settings"].update(threads="2"), "settings.threads is '2'"),
    "missing": (lambda lines: lines.pop(6), r"1 of \d+ subjects were not measured, first"),
    "twice": (lambda lines: lines.append(lines[5]), r"line \d+ repeats the subject"),
    "unknown": (of_visit(subject="attention 8"), "line 5: subject is 'attention 8'"),
    "negative": (of_visit(ms=[0.1, -0.1]), r"line 5: ms\[1\] of .* is -0.1"),
    "zero": (of_visit(ms=[0]), r"line 5: ms\[0\] of .* is 0;"),
    "not a number": (of_visit(ms=[float("nan")]), r"line 5: ms\[0\] of .* is nan"),
    "text": (of_visit(ms=["1"]), r"line 5: ms\[0\] of .* is '1'"),
    "none": (of_visit(ms=[]), r"line 5: ms is \[\]"),
    "extra": (of_visit(note=1), "line 5 must be an object with round, subject and ms"),
    "round": (of_visit(round="1"), "line 5: round is '1'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_measurements_are_refused(fault: str, measured: list[Json], tmp_path: Path) -> None:
    change, named = FAULTS[fault]
    lines: list[Json] = json.loads(json.dumps(measured))
    change(lines)
    with pytest.raises(UserError, match=named) as caught:
        merge([written(lines, tmp_path / "out.jsonl")])
    assert "\n" not in str(caught.value)


def test_measurements_of_different_devices_are_not_mixed(measured: list[Json], tmp_path: Path) -> None:
    other: list[Json] = json.loads(json.dumps(measured))
    other[0]["settings"]["threads"] = 4
    paths = [written(measured, tmp_path / "one.jsonl"), written(other, tmp_path / "other.jsonl")]
    with pytest.raises(UserError, match=r"settings\.threads of .*other\.jsonl differs from that of .*one\.jsonl"):
        merge(paths)


def test_a_zip_that_leads_outside_itself_is_refused(measured: list[Json], tmp_path: Path) -> None:
    good = written(measured, tmp_path / "out.jsonl")
    for name in ("../out.jsonl", "/etc/out.jsonl", "a/../../out.jsonl", "..\\out.jsonl", "C:\\out.jsonl"):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            archive.write(good, "out.jsonl")
            archive.writestr(zipfile.ZipInfo(name), "{}")
        with pytest.raises(UserError, match="which leads outside it"):
            merge([tmp_path / "bad.zip"])
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("a.jsonl", "b.jsonl"):
            archive.write(good, name)
    with pytest.raises(UserError, match=r"holds 2 files \*\.jsonl"):
        merge([tmp_path / "two.zip"])
    whole = (tmp_path / "two.zip").read_bytes()
    (tmp_path / "damaged.zip").write_bytes(whole[:40] + b"\0" * 2000 + whole[2040:])
    with pytest.raises(UserError):
        merge([tmp_path / "damaged.zip"])


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
    write_kit(tmp_path / "kit.zip", SearchSpace.load("litepose"), 17, (), 1)
    assert (tmp_path / "kit.zip").stat().st_size < 20e6
