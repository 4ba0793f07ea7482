"""The parts of a weight-sharing study: their training options, and that they can be interrupted and continued."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scripts.studies.sharing_plan import Part
from scripts.studies.sharing_results import write_results
from scripts.studies.sharing_runs import Study
from scripts.studies.weight_sharing import DEFAULTS, STUDY_FILE, open_study, parse_options, time_left
from search.cost import macs
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import SUPERNET_FILE, load_supernet, save_supernet
from supernet.errors import UserError
from supernet.io import files
from supernet.pose.keypoints import COCO
from supernet.pose.training.loader import step_resolution
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.training.phases import step_archs
from supernet.training.warm_start import read_warm_start
from supernet.weight_sharing import SuperNet

STRATEGIES = DEFAULTS.strategies
ROOT = Path(__file__).parents[3]
FEW = (
    "dataset.train.num_images=8",
    "dataset.test.num_images=4",
    "dataset.width=96",
    "dataset.height=96",
    "num_calibration_images=4",
    "batch_size=2",
)


def study(
    folder: Path,
    steps: int = 840,
    prices: tuple[float, ...] = (2.0,),
    tuning_steps: int = 0,
    changes: tuple[str, ...] = FEW,
    **options: Any,
) -> Study:
    plan = replace(
        DEFAULTS, steps=steps, num_archs=3, prices=prices, tuning_steps=tuning_steps, changes=changes, **options
    )
    return Study(folder, plan, 1)


def write_trained(config: Mapping[str, Any], folder: Path) -> None:
    """Write the files of a finished training, with random weights."""
    torch.manual_seed(0)
    space = SearchSpace.from_dict(config["space"])
    state = SuperNet(space, COCO.num).state_dict()
    path = folder / SUPERNET_FILE
    save_supernet(path, space, state, COCO, config["dataset"], config["evaluation"], PoseObjective(COCO.num))
    files.write_json(folder / "summary.json", {"train_seconds": 12.5})


def write_random_supernet(folder: Path, config: Mapping[str, Any]) -> SuperNet:
    """Write a supernet of the space ``nano`` and return it."""
    space = SearchSpace.load("nano")
    torch.manual_seed(3)
    supernet = SuperNet(space, COCO.num)
    state, path = supernet.state_dict(), folder / SUPERNET_FILE
    save_supernet(path, space, state, COCO, config["dataset"], {}, PoseObjective(COCO.num))
    return supernet


def test_an_arch_alone_gets_the_phases_of_the_largest_subnet_over_all_steps(tmp_path: Path) -> None:
    whole = study(tmp_path)
    alone, progressive = whole.scheduled(Part("alone", 0, 0)), whole.scheduled(Part("progressive", 0, None, 2.0))
    assert [scheduled.phase for scheduled in alone] == [scheduled.phase for scheduled in progressive[:2]]
    assert [scheduled.stop for scheduled in alone] == [round(840 * 28 / 35), 840]
    assert alone[1].resolutions == (128,)


def test_an_arch_alone_gets_all_phases_of_a_recipe_that_never_trains_the_largest_subnet_alone(tmp_path: Path) -> None:
    whole = study(tmp_path, experiment="nano_long", strategies=("recipe",))
    alone, shared = whole.scheduled(Part("alone", 0, 2)), whole.scheduled(Part("recipe", 0, None, 2.0))
    names = ("name", "share", "learning_rate", "resolution_scale")
    assert [[getattr(part.phase, name) for name in names] for part in alone] == [
        [getattr(part.phase, name) for name in names] for part in shared
    ]
    assert {(part.phase.subnets, part.phase.teacher) for part in alone} == {(("largest",), "none")}
    assert {(part.phase.subnets, part.phase.teacher) for part in shared} == {(("largest", "random"), "inplace")}


def test_the_steps_of_a_supernet_cost_what_its_price_says(tmp_path: Path) -> None:
    """Counted step by step, for the subnets that the training draws."""
    whole = study(tmp_path, prices=(1.0, 3.0))
    alone = [counted_macs(whole, Part("alone", 0, i)) for i in range(3)]
    assert alone == pytest.approx([whole.macs(Part("alone", 0, i)) for i in range(3)], rel=0.02)
    mean = statistics.mean(alone)
    for kind in STRATEGIES:
        for price in (1.0, 3.0):
            assert counted_macs(whole, Part(kind, 0, None, price)) / mean == pytest.approx(price, rel=0.1)


def counted_macs(whole: Study, part: Part) -> int:
    """Multiply-adds per image of all steps of the training of ``part``."""
    space = SearchSpace.from_dict(whole.config(part)["space"])
    total = 0
    for scheduled in whole.scheduled(part):
        for step in range(scheduled.start, scheduled.stop):
            resolution = step_resolution(scheduled.resolutions, part.seed, step)
            archs = [
                replace(arch, resolution=resolution) for arch in step_archs(scheduled, resolution, part.seed, step)
            ]
            total += 3 * sum(macs(arch, COCO.num) for arch in archs)
            if scheduled.phase.teacher == "frozen":
                total += macs(replace(space.largest(), resolution=resolution), COCO.num)
    return total


def test_trainings_differ_in_space_phases_steps_and_name_only(tmp_path: Path) -> None:
    whole = study(tmp_path, prices=(3.0, 1.0), tuning_steps=5)
    parts = whole.parts([3, 4])
    supernets = [f"{kind}-{price}x" for kind in STRATEGIES for price in (1, 3)]
    alone = [f"alone:{i}" for i in range(3)]
    names = [*supernets, *alone, *(f"{name}:{i}" for name in supernets for i in range(3))]
    assert [(part.name, part.seed) for part in parts] == [(name, seed) for seed in (3, 4) for name in names]
    configs = {part.name: whole.config(part) for part in parts if part.seed == 3}
    first = configs["alone:0"]
    for name, config in configs.items():
        different = {key for key in config if config[key] != first[key]}
        assert different <= {"space", "phases", "steps", "name", "init"}
        assert config["seed"] == 3
        tuned = str(tmp_path / "runs" / "train" / f"seed3_{name.partition(':')[0]}") if name.count(":") else None
        assert config["init"] == (None if name.startswith("alone") else tuned)
    assert first["steps"] == 840
    assert configs["sandwich-3x:1"]["steps"] == 5
    assert configs["sandwich-3x:1"]["space"] == configs["alone:1"]["space"] | {"name": "nano_1"}


def test_archs_alone_start_from_the_pretrained_backbone_as_the_supernet_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe's initial weights are saved as a supernet, from which any arch can be cut."""
    source = tmp_path / "pretrained"
    supernet = write_random_supernet(source, study(tmp_path / "other").base)
    whole = study(tmp_path, changes=(*FEW, f"init={source}"))
    starts: list[str] = []
    monkeypatch.setattr("scripts.studies.sharing_runs.start_or_resume", lambda config, _: starts.append(config["init"]))
    for part in (Part("alone", 0, 0), Part("sandwich", 0, None, 2.0)):
        whole.train(part)
    assert starts == [str(whole.initial_supernet)] * 2
    start = read_warm_start(starts[0], None, SearchSpace.from_dict(whole.config(Part("alone", 0, 0))["space"]))
    expected = supernet.extract(whole.archs[0]).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in start.tensors.items())


def test_with_a_new_head_only_the_backbone_is_trained_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "pretrained"
    trained = write_random_supernet(source, study(tmp_path / "other").base).network.state_dict()
    whole = study(tmp_path / "new", new_head=True, changes=(*FEW, f"init={source}"))
    monkeypatch.setattr("scripts.studies.sharing_runs.start_or_resume", lambda config, _: None)
    whole.train(Part("alone", 0, 0))
    start = load_supernet(whole.initial_supernet).supernet.network.state_dict()
    equal = {name: torch.equal(value, trained[name]) for name, value in start.items() if value.dim() > 1}
    assert len(equal) > 50
    assert all(same == name.startswith(("first.", "stage.")) for name, same in equal.items())


def test_a_new_head_without_a_trained_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--new-head needs trained weights.*--set init="):
        study(tmp_path, new_head=True)


def test_a_plan_with_too_few_steps_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="would get no step"):
        study(tmp_path / "new", steps=5)
    assert not (tmp_path / "new").exists()


def test_an_interrupted_part_continues_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str | None, list[str]]] = []
    whole, part = study(tmp_path), Part("progressive", 0, None, 2.0)
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

    (tmp_path / "scores" / "seed0_progressive-2x_arch_1.json").unlink()
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
    whole.run(Part("sandwich", 0, None, 2.0))
    whole.run(Part("alone", 0, 2))
    write_results(whole, [0], tmp_path, "the command")
    figures = json.loads((tmp_path / "study_sharing.json").read_text())
    assert figures["command"] == "the command"
    assert figures["workload"]["steps"] == 840
    assert list(figures["prices"].values()) == pytest.approx([3, 2, 2], rel=0.02)
    assert sum(phase["steps"] for phase in figures["phases"]["alone"]) == 840
    for i, row in enumerate(figures["archs"]):
        score = {"AP": row["costs"]["macs"] / 1e9}
        alone = [score if i == 2 else None]
        assert row["metrics"] == {"alone": alone, "progressive-2x": [None], "sandwich-2x": [score]}
    assert figures["agreement"]["sandwich-2x"]["mean"]["num"] == 1
    assert figures["train_seconds"]["seed0_sandwich-2x"] == 12.5
    text = (tmp_path / "study_sharing.md").read_text()
    assert "| sandwich-2x | 1 of 3 |" in text
    assert (tmp_path / "study_sharing.png").exists()


def test_the_time_left_follows_from_the_multiply_adds_of_finished_parts(tmp_path: Path) -> None:
    whole = study(tmp_path)
    parts = whole.parts([0])
    assert time_left(whole, parts, parts) == ""
    small, large = Part("alone", 0, 0), Part("alone", 0, 2)
    write_trained(whole.config(small), whole.run_folder(small))
    seconds = 12.5 * whole.macs(large) / whole.macs(small)
    assert time_left(whole, parts, [large]) == f", about {seconds / 60:.0f} min of training left"


def test_fine_tuning_needs_the_supernet(tmp_path: Path) -> None:
    whole = study(tmp_path, tuning_steps=5)
    with pytest.raises(UserError, match="sandwich-2x:1 needs the supernet of part sandwich-2x"):
        whole.train(Part("sandwich", 0, 1, 2.0))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_study_continues(tmp_path: Path) -> None:
    changes = [f"--set={change}" for change in (*FEW, "checkpoint_every=5", "log_every=1")]
    options = ["--steps=60", "--num-archs=3", "--strategies=sandwich", *changes]
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
    assert "sandwich-3x" in state.stdout
    figures = json.loads((tmp_path / "study_sharing.json").read_text())
    assert len(figures["archs"][0]["metrics"]["alone"]) == 1


def test_a_study_takes_more_parts_later_but_no_other_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(words: str) -> Study:
        monkeypatch.setattr("sys.argv", ["weight_sharing", f"--out={tmp_path}", *words.split()])
        return open_study(parse_options())

    first = opened("--steps 840 --num-archs 3 --strategies sandwich --prices 2")
    files.write_json(tmp_path / STUDY_FILE, first.to_dict())
    before = {part.name for part in first.parts([0])}
    for words, added in (
        ("--tuning-steps 5", {"sandwich-2x:0", "sandwich-2x:1", "sandwich-2x:2"}),
        ("--prices 2 3", {"sandwich-3x"}),
        ("--strategies sandwich progressive", {"progressive-2x"}),
    ):
        assert {part.name for part in opened(words).parts([0])} == before | added
    for words in ("--steps 900", "--num-archs 4", "--strategies progressive", "--prices 3"):
        with pytest.raises(UserError, match="choose another --out"):
            opened(words)
    files.write_json(tmp_path / STUDY_FILE, opened("--tuning-steps 5").to_dict())
    with pytest.raises(UserError, match="choose another --out"):
        opened("--tuning-steps 6")
