"""A restarted or requeued job finds its run and continues it with the same configuration."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.checkpoints import container
from supernet.errors import UserError
from supernet.training.launch import check_unchanged, folder_of_job, start_or_resume
from supernet.training.trainer import Trainer
from tests.helpers.coco_files import write_custom_set
from tests.supernet.test_train import configuration


def under_torchrun(monkeypatch: pytest.MonkeyPatch, restarted: int, most: int) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restarted))
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", str(most))


@contextmanager
def stopped_at(step: int) -> Iterator[None]:
    """Within this context, trainings get SIGTERM in a step, after which they stop."""
    original = Trainer.train_step

    def interrupted(self: Trainer, *arguments: Any) -> Any:
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        yield


def test_only_a_restart_and_resume_auto_look_for_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder_of_job("runs", "a", None) is None
    assert folder_of_job("runs", "a", "latest") is None
    assert folder_of_job("runs", "a", "auto") == Path("runs/train/a")
    under_torchrun(monkeypatch, 0, 3)
    assert folder_of_job("runs", "a", None) is None
    under_torchrun(monkeypatch, 1, 3)
    assert folder_of_job("runs", "a", None) == Path("runs/train/a")
    assert folder_of_job("runs", None, "latest") is None


def test_a_run_that_a_job_must_find_needs_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder_of_job("runs", None, None) is None
    with pytest.raises(UserError, match=r"resume=auto .*add name=NAME"):
        folder_of_job("runs", None, "auto")
    under_torchrun(monkeypatch, 0, 3)
    with pytest.raises(UserError, match=r"a restarted job .*add name=NAME"):
        folder_of_job("runs", None, None)


def test_another_configuration_is_not_a_continuation() -> None:
    check_unchanged(Path("run"), {"steps": 3, "threads": 1}, {"steps": 3, "threads": 2}, ("threads",))
    for name, now in (("steps", {"steps": 4}), ("sigma", {"steps": 3, "sigma": 2})):
        with pytest.raises(UserError, match=f"^{name} differs from the run in run;"):
            check_unchanged(Path("run"), {"steps": 3}, now, ("threads",))


def test_resume_auto_starts_a_run_and_continues_it(tmp_path: Path) -> None:
    config = configuration(tmp_path / "cut", resume="auto", steps=12)
    with stopped_at(7), pytest.raises(UserError, match="stopped after 8 steps"):
        start_or_resume(config, ["resume=auto", "steps=12"])
    with pytest.raises(UserError, match="batch_size differs from the run in"):
        start_or_resume(config | {"batch_size": 2}, ["resume=auto", "steps=12", "batch_size=2"])
    by_name = config | {"resume": "run"}
    start_or_resume(by_name, ["resume=run", f"runs={tmp_path / 'cut'}"])
    start_or_resume(configuration(tmp_path / "whole", steps=12), [])
    cut, whole = (
        container.load(tmp_path / name / "train" / "run" / "supernet.pt", "supernet")["state"]
        for name in ("cut", "whole")
    )
    assert all(torch.equal(cut[name], whole[name]) for name in whole)
    with pytest.raises(UserError, match="is finished"):
        start_or_resume(config, ["resume=auto", "steps=12"])


def test_a_run_goes_on_with_its_images_in_another_folder(tmp_path: Path) -> None:
    before, now = tmp_path / "before", tmp_path / "now"
    dataset = write_custom_set(before)
    config = configuration(tmp_path / "cut", dataset=dataset, steps=8)
    start_or_resume(configuration(tmp_path / "whole", dataset=dataset, steps=8), [])
    with stopped_at(3), pytest.raises(UserError, match="stopped after 4 steps"):
        start_or_resume(config, [])
    before.rename(now)
    composed = config | {"resume": "run"}
    with pytest.raises(UserError, match=str(before)):
        start_or_resume(composed, ["resume=run"])
    moved = composed | {"dataset": {"root": str(now)}}  # as Hydra makes of what the command line adds
    with pytest.raises(UserError, match=r"dataset\.category=dog cannot be changed .*allowed: .* dataset\.root"):
        start_or_resume(moved, ["resume=run", "dataset.category=dog"])
    with stopped_at(4), pytest.raises(UserError, match="stopped after 5 steps"):
        start_or_resume(moved, ["resume=run", f"++dataset.root={now}"])
    with stopped_at(5), pytest.raises(UserError, match="stopped after 6 steps"):
        start_or_resume(composed, ["resume=run"])
    now = now.rename(tmp_path / "at last")
    again = config | {"resume": "auto", "dataset": dataset | {"root": str(now)}}
    start_or_resume(again, ["resume=auto", f"dataset.root={now}"])
    cut, whole = (
        container.load(tmp_path / name / "train" / "run" / "supernet.pt", "supernet") for name in ("cut", "whole")
    )
    assert cut["dataset"] == whole["dataset"] | {"root": str(now)}
    assert all(torch.equal(cut["state"][name], whole["state"][name]) for name in whole["state"])


def test_a_run_on_built_in_images_has_no_folder_to_change(tmp_path: Path) -> None:
    config = configuration(tmp_path, steps=6)
    with stopped_at(3), pytest.raises(UserError, match="stopped"):
        start_or_resume(config, [])
    moved = config | {"resume": "run", "dataset": {"root": str(tmp_path)}}
    with pytest.raises(UserError, match=r"kind 'synthetic' has no folder; leave out dataset\.root"):
        start_or_resume(moved, ["resume=run", f"++dataset.root={tmp_path}"])
