"""The command that exports a subnet writes a usable model, or says in a sentence why not."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from subnet_export import __main__ as entry
from subnet_export.model import load_model
from supernet.arch import Arch
from supernet.checkpoint import TrainedSupernet
from supernet.pose.datasets import build
from supernet.scoring import SubnetScorer
from supernet.space import SearchSpace


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Call the entry point as from a command line; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["export", "--device", "cpu", *map(str, arguments)])
    try:
        entry.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def runs(tmp_path: Path, supernet_folder: Path, trained: TrainedSupernet) -> Path:
    """A folder of runs as training and search leave it."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "latest").symlink_to(supernet_folder)
    trained.supernet.space.sample(np.random.default_rng(8)).save(tmp_path / "evolve" / "latest" / "arch.json")
    return tmp_path


def test_the_searched_arch_becomes_the_latest_export(
    runs: Path, trained: TrainedSupernet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(monkeypatch, "--runs", runs, "--calibration-images", 5, "--batch-size", 3) == 0
    latest = runs / "export" / "latest"
    assert sorted(os.listdir(latest.parent)) == sorted(["latest", os.readlink(latest)])
    assert sorted(os.listdir(latest)) == ["model.json", "summary.json", "weights.pt"]
    model = load_model(latest)
    assert model.arch == Arch.load(runs / "evolve" / "latest" / "arch.json")

    train_set, test_set = build(trained.dataset, "train"), build(trained.dataset, "test")
    scorer = SubnetScorer(trained.supernet, train_set, test_set, model.settings, 5, batch_size=3)
    expected = scorer.subnet(model.arch).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.network.state_dict().items())

    summary = json.loads((latest / "summary.json").read_text())
    assert summary["measurement"]["metrics"] == model.measurement.metrics
    assert summary["costs"] == model.costs
    assert summary["arch_file"] == str(runs / "evolve" / "latest" / "arch.json")
    shown = capsys.readouterr().out
    for part in ("3 pictures", "5 pictures of train", "weights.pt", "model.json", "summary.json"):
        assert part in shown


def test_a_named_folder_is_used_and_latest_left_alone(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = runs / "mine" / "model"
    assert run(monkeypatch, "--runs", runs, "--output", out, "--num-images", 2) == 0
    assert load_model(out).measurement.num_images == 2
    assert os.listdir(out.parent) == ["model"]
    assert not (runs / "export").exists()


def test_an_arch_outside_the_space_is_refused(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs / "large.json"
    SearchSpace.load("nano").largest().save(path)
    assert run(monkeypatch, "--runs", runs, "--arch", path) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"arch file {path} does not fit the supernet" in told
    assert "outside the space; allowed: 64" in told
    assert not (runs / "export").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "nowhere.json"], "cannot read arch file nowhere.json"),
        (["--supernet", "nowhere"], "there is no trained supernet at nowhere"),
        (["--runs", "nowhere"], "there is no nowhere/evolve/latest/arch.json; run python -m search.evolve first"),
        (["--dataset-root", "."], "a data set of kind 'synthetic' has no folder"),
        (["--device", "abacus"], "device 'abacus' is not available"),
        (["--output", "."], ". exists already and is never overwritten"),
        (["--batch-size", "0"], "'0' must be a whole number of at least 1"),
        (["--archs", "a.json"], "there is no option --archs, did you mean --arch?"),
        (["--arch"], "argument --arch: expected one argument"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    arguments: list[str],
    message: str,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "--runs", runs, *arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert message in told
    assert not (runs / "export").exists()


def test_help_needs_no_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("supernet", "torch")]:
        monkeypatch.setitem(sys.modules, name, None)  # importing it would now raise
    assert run(monkeypatch, "--help") == 0
    assert "--arch" in capsys.readouterr().out
