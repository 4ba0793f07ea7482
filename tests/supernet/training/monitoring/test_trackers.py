"""Every tracker gets the figures of all steps; one that fails stops no training."""

import json
import os
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest

from supernet.errors import UserError
from supernet.training.monitoring.log import TrainingLog
from supernet.training.monitoring.trackers import TrackerName, Unfailing, flat, how_to_view, mlflow_uri, open_tracker
from supernet.version import PROJECT
from tests.supernet.training.monitoring.test_log import report

CONFIG = {"seed": 0, "space": {"name": "nano", "widths": [8, 16]}, "long": "x" * 1000}


def record(folder: Path, tracker: TrackerName, steps: range) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with TrainingLog(folder, steps.start, tracker, CONFIG) as log:
        for step in steps:
            log.write(report(step), {"loss_largest": float(step)})


def test_without_a_tracker_only_lines_are_written(tmp_path: Path) -> None:
    record(tmp_path, "none", range(3))
    assert os.listdir(tmp_path) == ["train.jsonl"]
    assert how_to_view("none", tmp_path) == ""


def test_the_command_that_shows_the_curves_quotes_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = Path("/my runs/train/one")
    assert shlex.split(how_to_view("tensorboard", folder))[-1] == str(folder)
    assert shlex.split(how_to_view("mlflow", folder))[-1] == mlflow_uri(folder)


def test_tensorboard_holds_the_figures_of_every_step_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    record(tmp_path, "tensorboard", range(5))
    record(tmp_path, "tensorboard", range(3, 7))  # resumed from step 3
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss_largest")] == [(i, i) for i in range(7)]


def test_mlflow_holds_the_figures_of_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "runs" / "train" / "one"
    record(folder, "mlflow", range(4))
    uri = mlflow_uri(folder)
    assert uri.endswith("/runs/mlflow.db")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(PROJECT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("one", "FINISHED")
    assert (run.data.params["space.name"], run.data.params["seed"]) == ("nano", "0")
    history = client.get_metric_history(run.info.run_id, "train/loss_largest")
    assert [(point.step, point.value) for point in history] == [(i, i) for i in range(4)]
    # A resumed run continues the same run of MLflow; one that is stopped is marked so.
    log = TrainingLog(folder, 4, "mlflow", CONFIG)
    log.write(report(4), {"loss_largest": 4.0})
    log.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    assert run.data.metrics["train/loss_largest"] == 4.0


def test_wandb_keeps_figures_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    record(tmp_path, "wandb", range(3))
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    first = json.loads((tmp_path / "tracker.json").read_text())
    record(tmp_path, "wandb", range(3, 5))
    assert json.loads((tmp_path / "tracker.json").read_text()) == first


class Broken:
    """Fails at the second step."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def log(self, step: int, values: Any) -> None:
        self.steps.append(step)
        if step == 1:
            raise ConnectionError("no server")

    def close(self, is_finished: bool) -> None:
        raise AssertionError


def test_a_tracker_that_fails_stops_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = Broken()
    tracker = Unfailing("mlflow", lambda: broken)
    for step in range(4):
        tracker.log(step, {})
    tracker.close(is_finished=True)
    assert broken.steps == [0, 1]
    (message,) = caplog.messages
    assert "no server" in message


def test_a_tracker_that_cannot_be_opened_is_a_user_error(tmp_path: Path) -> None:
    def fail() -> Broken:
        raise ConnectionError("no server")

    with pytest.raises(UserError, match=r"tracker=wandb .*no server"):
        Unfailing("wandb", fail)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in set(get_args(TrackerName)) - {"none"}:
        with pytest.raises(UserError, match=rf"litepose-supernet\[{'train' if name == 'tensorboard' else name}\]"):
            open_tracker(name, tmp_path, 0, {})
    assert os.listdir(tmp_path) == []


def test_options_are_flat_text() -> None:
    assert flat(CONFIG) | {"long": ""} == {"seed": "0", "space.name": "nano", "space.widths": "[8, 16]", "long": ""}
