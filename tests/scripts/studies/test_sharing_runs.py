"""The parts of a weight-sharing study: their training options, and that they can be interrupted and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scripts.studies.sharing_results import write_results
from scripts.studies.sharing_runs import Part, Study, StudyPlan, phases_of_largest
from scripts.studies.sharing_timing import PartTiming, seconds_left
from search.cost import macs
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import SUPERNET_FILE, save_supernet
from supernet.errors import UserError
from supernet.io import files
from supernet.pose.keypoints import COCO
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

ROOT = Path(__file__).parents[3]
FEW = (
    "dataset.train.num_images=8",
    "dataset.test.num_images=4",
    "dataset.width=96",
    "dataset.height=96",
    "num_calibration_images=4",
    "batch_size=2",
)


def study(folder: Path, steps: int = 84) -> Study:
    return Study(folder, StudyPlan("nano", steps, 3, 0, FEW), 1)


def write_trained(config: Mapping[str, Any], folder: Path) -> None:
    """Write the files of a finished training, with random weights."""
    torch.manual_seed(0)
    space = SearchSpace.from_dict(config["space"])
    state = SuperNet(space, COCO.num).state_dict()
    path = folder / SUPERNET_FILE
    save_supernet(path, space, state, COCO, config["dataset"], config["evaluation"], PoseObjective(COCO.num))
    files.write_json(folder / "summary.json", {"train_seconds": 12.5})


def test_an_arch_alone_gets_the_phases_of_the_largest_subnet_over_all_steps(tmp_path: Path) -> None:
    whole = study(tmp_path, steps=840)
    alone, progressive = whole.scheduled(Part("alone", 0, 0)), whole.scheduled(Part("progressive", None, 0))
    assert [scheduled.phase for scheduled in alone] == [scheduled.phase for scheduled in progressive[:2]]
    assert [scheduled.stop for scheduled in alone] == [round(840 * 28 / 35), 840]
    assert alone[1].resolutions == (128,)


def test_trainings_differ_in_space_phases_and_name_only(tmp_path: Path) -> None:
    whole = study(tmp_path)
    parts = whole.parts([3, 4])
    names = ["progressive", "sandwich", "alone:0", "alone:1", "alone:2"]
    assert [(part.name, part.seed) for part in parts] == [(name, seed) for seed in (3, 4) for name in names]
    configs = [whole.config(part) for part in parts if part.seed == 3]
    for config in configs:
        different = {key for key in config if config[key] != configs[0][key]}
        assert different <= {"space", "phases", "name"}
        assert (config["steps"], config["seed"], config["evaluation"]["flip_test"]) == (84, 3, True)


def test_phases_without_the_largest_subnet_alone_are_refused() -> None:
    sandwich = {"name": "s", "share": 1, "elastic": ["width"], "subnets": ["largest", "random"], "learning_rate": 0.01}
    with pytest.raises(UserError, match="largest subnet alone"):
        phases_of_largest([sandwich])


def test_a_plan_with_too_few_steps_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="would get no step"):
        study(tmp_path / "new", steps=5)
    assert not (tmp_path / "new").exists()


def test_an_interrupted_part_continues_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str | None, list[str]]] = []
    whole, part = study(tmp_path), Part("progressive", None, 0)
    folder = whole.run_folder(part)

    def train(config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        calls.append((config["resume"], list(overrides)))
        assert Path(config["runs"], "train", config["name"]) == folder
        if len(calls) == 1:
            (folder / "plots").mkdir(parents=True)
            raise UserError("stopped before the first checkpoint")
        assert not (folder / "plots").exists()
        folder.mkdir(exist_ok=True)
        if len(calls) == 2:
            (folder / "checkpoint.pt").touch()
            raise UserError("stopped after a checkpoint")
        write_trained(config, folder)

    monkeypatch.setattr("scripts.studies.sharing_runs.start_or_resume", train)
    for _ in range(2):
        with pytest.raises(UserError, match="stopped"):
            whole.run(part)
    assert not whole.is_done(part)
    whole.run(part)
    assert calls == [(None, []), (None, []), (str(folder), [f"resume={folder}", "threads=1"])]
    assert whole.is_done(part)
    aps = [whole.ap(part, arch) for arch in range(3)]

    (tmp_path / "scores" / "seed0_progressive_arch_1.json").unlink()
    assert not whole.is_done(part)
    again = study(tmp_path)
    again.run(part)
    assert len(calls) == 3
    assert [again.ap(part, arch) for arch in range(3)] == aps


def test_the_results_of_an_unfinished_study_are_complete_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(config: Mapping[str, Any], _: Sequence[str]) -> None:
        write_trained(config, tmp_path / "runs" / "train" / config["name"])

    def scorer(*_: Any) -> Callable[[Arch], SimpleNamespace]:
        return lambda arch: SimpleNamespace(metrics={"AP": macs(arch, COCO.num) / 1e9})

    monkeypatch.setattr("scripts.studies.sharing_runs.start_or_resume", train)
    monkeypatch.setattr("scripts.studies.sharing_runs.SubnetScorer", scorer)
    whole = study(tmp_path)
    whole.run(Part("sandwich", None, 0))
    whole.run(Part("alone", 2, 0))
    write_results(whole, [0], tmp_path, "the command")
    figures = json.loads((tmp_path / "study_sharing.json").read_text())
    assert figures["command"] == "the command"
    assert figures["workload"]["steps"] == 84
    assert [sum(phase["steps"] for phase in phases) for phases in figures["phases"].values()] == [84, 84, 84]
    for i, row in enumerate(figures["archs"]):
        score = {"AP": row["costs"]["macs"] / 1e9}
        assert row["metrics"] == {"alone": [score if i == 2 else None], "progressive": [None], "sandwich": [score]}
    assert figures["agreement"]["sandwich"]["mean"]["num"] == 1
    assert figures["train_seconds"]["seed0_sandwich"] == 12.5
    text = (tmp_path / "study_sharing.md").read_text()
    assert "| sandwich | 1 of 3 |" in text
    assert (tmp_path / "study_sharing.png").exists()


def test_the_time_left_is_that_of_the_missing_steps_images_and_scores(tmp_path: Path) -> None:
    whole, part = study(tmp_path, steps=110), Part("alone", 0, 0)
    timing = PartTiming(step_seconds=(2.0, 3.0), image_seconds=0.5, score_seconds=7.0)
    assert seconds_left(whole, part, timing) == 88 * 2 + 22 * 3 + 8 * 0.5 + 2 * 7 + 7
    folder = whole.run_folder(part)
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"step": 20}\n{"step": 107}\n')
    assert seconds_left(whole, part, timing) == 2 * 3 + 4 * 0.5 + 2 * 7 + 7
    (folder / "summary.json").touch()
    assert seconds_left(whole, part, timing) == 7


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_study_continues(tmp_path: Path) -> None:
    changes = [f"--set={change}" for change in (*FEW, "checkpoint_every=5", "log_every=1")]
    options = ["--steps=60", "--num-archs=3", *changes]
    command = [sys.executable, "-m", "scripts.studies.weight_sharing", f"--out={tmp_path}", "--threads=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    only_one = [*command, "--only=alone:0"]
    process = subprocess.Popen([*only_one, *options], cwd=ROOT, env=environment)
    saved = tmp_path / "runs" / "train" / "seed0_alone_0" / "checkpoint.pt"
    deadline = time.monotonic() + 300
    while not saved.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert saved.exists()
    assert not (tmp_path / "scores").exists()

    other = subprocess.run([*only_one, "--steps=70"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert other.returncode == 2
    assert "steps 60, not 70" in other.stderr
    done = subprocess.run(only_one, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "60 of 60" in done.stdout
    state = subprocess.run([*command, "--status"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "0 of 60" in state.stdout
    figures = json.loads((tmp_path / "study_sharing.json").read_text())
    assert len(figures["archs"][0]["metrics"]["alone"]) == 1
