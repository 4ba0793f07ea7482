"""The command line of latency tables, from the first build to the last error."""

import json
import shlex
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from search.lut import __main__ as entry
from search.lut import commands
from search.lut.build import Effort
from supernet.cli import commands as command_names
from supernet.costs.latency_table import LatencyTable
from tests.helpers.latency_runtime import FakeRuntime
from tests.helpers.latency_tables import SPACE, fake_table
from tests.search.lut.devices.test_transfer import OTHER, SOURCE, measured


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Call the entry point as from a command line; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["lut", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "150")
    try:
        entry.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_table_is_built_verified_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE.to_dict()))
    options = ("--space", space, "--num-keypoints", 14, "--resolutions", "64", "--threads", 1)
    monkeypatch.setattr(command_names._start, "is_script", True)
    assert run(monkeypatch, "build", *options, "--networks", 3, "--rounds", 1, "--runs", tmp_path / "my runs") == 0
    path = tmp_path / "my runs" / "lut" / "tiny-onnxruntime-f32-1threads.json"
    table = LatencyTable.load(path)
    assert table.space.resolutions == (64,)
    assert table.settings.threads == 1
    output = capsys.readouterr().out
    assert "3 in fitting" in output
    assert f"litepose lut verify {shlex.quote(str(path))} tests it" in output
    assert run(monkeypatch, "verify", path, "--networks", 4, "--rounds", 2) == 0
    assert "repeat noise" in capsys.readouterr().out
    figures = json.loads(path.with_suffix(".verified.json").read_text())
    assert len(figures["networks"]) == 4
    assert figures["agreement"]["num_networks"] == 4
    arch = table.space.sample(np.random.default_rng(0))
    arch.save(tmp_path / "arch.json")
    assert run(monkeypatch, "show", path, "--arch", tmp_path / "arch.json") == 0
    assert f"{table.predict_ms(arch):.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(("factor", "is_warned"), [(1.0, False), (1.25, True)])
def test_a_verification_on_a_machine_of_another_speed_warns(
    factor: float,
    is_warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    runtime, path = FakeRuntime(lambda _: factor), tmp_path / "table.json"
    fake_table().save(path)
    monkeypatch.setattr(commands, "runtime_of", lambda _: runtime)
    monkeypatch.setattr(commands, "Effort", lambda rounds, minutes: Effort(rounds, minutes, runtime.clock))
    assert run(monkeypatch, "verify", path, "--networks", 4) == 0
    shown = capfd.readouterr()
    assert f"{factor:.3f} times the latencies" in shown.out
    assert ("this machine takes 1.25 times as long" in shown.out + shown.err) == is_warned


def test_a_table_of_ncnn_is_built_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space, path = tmp_path / "space.yaml", tmp_path / "table.json"
    space.write_text(yaml.safe_dump(SPACE.to_dict()))
    options = ("--space", space, "--resolutions", "64", "--threads", 1, "--networks", 3, "--rounds", 1)
    assert run(monkeypatch, "build", *options, "--runtime", "ncnn", "--output", path) == 0
    assert LatencyTable.load(path).settings.runtime == "ncnn"
    assert run(monkeypatch, "verify", path, "--networks", 3, "--rounds", 1) == 0
    assert "Spearman" in capsys.readouterr().out


def test_a_table_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    table, there, moved = (tmp_path / name for name in ("table.json", "there.jsonl", "moved.json"))
    SOURCE.save(table)
    measured(there, 12)
    assert run(monkeypatch, "transfer", table, there, "--output", moved) == 0
    assert "12 networks, each predicted from the others" in capsys.readouterr().out
    assert LatencyTable.load(moved).settings == OTHER
    results = json.loads((tmp_path / "moved.transferred.json").read_text())
    assert results["agreement"]["num_networks"] == 12
    measured(there, 9)
    assert run(monkeypatch, "transfer", table, there, "--output", tmp_path / "new.json") == 2
    assert not (tmp_path / "new.json").exists()


def test_a_kit_for_ncnn_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space, kit = tmp_path / "space.yaml", tmp_path / "kit.zip"
    space.write_text(yaml.safe_dump(SPACE.to_dict()))
    options = ("--space", space, "--runtime", "ncnn", "--only-networks", "--networks", 10)
    assert run(monkeypatch, "kit", *options, "--output", kit) == 0
    with zipfile.ZipFile(kit) as archive:
        assert len([name for name in archive.namelist() if name.endswith(".param")]) == 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--runtime", "tensorrt"], "there is no runtime 'tensorrt'; choose among onnxruntime"),
        (["kit", "--runtime", "torch", "--output", "kit.zip"], "there is no kit for runtime 'torch'"),
        (["kit", "--only-networks", "--networks", "9", "--output", "kit.zip"], "must have at least 10 networks, got 9"),
        (["transfer", "nowhere.json", "new.jsonl", "--output", "new.json"], "cannot read latency table nowhere.json"),
        (["transfer", "table.json", "nowhere.jsonl", "--output", "new.json"], "cannot read measurements nowhere.jsonl"),
        (["transfer", "table.json", "nowhere.jsonl", "--output", "table.json"], "table.json exists already"),
        (["transfer", "table.json", "nowhere.jsonl", "--output", "."], ". exists already"),
        (["benchncnn", "nowhere.zip", "out.txt", "--output", "new.jsonl"], "cannot read kit nowhere.zip"),
        (["build", "--precision", "f16"], "onnxruntime computes in f32 here, not in f16"),
        (["build", "--runtime", "ncnn", "--device", "cuda"], "cuda"),
        (["build", "--space", "nowhere"], "there is no space named 'nowhere'"),
        (["build", "--resolutions", "128,200"], "'200' is not a resolution of space nano; choose among 128, 144, 160"),
        (["build", "--threads", "0"], "'0' must be a whole number of at least 1"),
        (["build", "--num-keypoints", "1001"], "--num-keypoints must be from 1 to 1000, got 1001"),
        (["kit", "--num-keypoints", "1001", "--output", "kit.zip"], "--num-keypoints must be from 1 to 1000, got 1001"),
        (["build", "--supernet", "nowhere", "--space", "nano"], "--supernet has its own space"),
        (["build", "--output", "table.json"], "table.json exists already"),
        (["build", "--treads", "1"], "there is no option --treads, did you mean --threads?"),
        (["verify", "nowhere.json"], "cannot read latency table nowhere.json"),
        (["verify", "table.json"], "settings.device of the latency table is 'a processor', here it is"),
        (["verify", "table.json", "--output", "table.json"], "table.json exists already"),
        (["show", "table.json", "--arch", "nowhere.json"], "cannot read arch file nowhere.json"),
        (["merge", "nowhere.jsonl", "--output", "new.json"], "cannot read measurements nowhere.jsonl"),
        (["merge", "nowhere.jsonl"], "--output"),
        (["kit", "--output", "table.json"], "table.json exists already"),
        (["measure"], "invalid choice: 'measure'"),
        ([], "required: COMMAND"),
    ],
)
def test_a_user_error_is_one_sentence(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.json").write_text(json.dumps(fake_table().to_dict()))
    assert run(monkeypatch, *arguments) == 2
    messages = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(messages) == 1
    assert messages[0].startswith("error: ")
    assert message in messages[0]
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]
