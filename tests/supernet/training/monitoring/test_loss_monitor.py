"""Losses that are not finite or explode are reported with their place, and figures are means over steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.compute.device import explain_out_of_memory
from supernet.errors import UserError
from supernet.pose.training.objective import LossTerms
from supernet.training import run_folder
from supernet.training.monitoring.loss_monitor import LossMonitor, TrainingDiverged
from supernet.training.monitoring.monitor import TrainingMonitor
from supernet.training.optimizer import MaskedAdam
from supernet.training.trainer import StepReport
from tests.helpers.training import NUM_STEPS, SPACE, is_equal, monitor_of, steps, tiny_trainer, train

LARGEST, SMALLEST = SPACE.largest(), SPACE.smallest()


def report(step: int, largest: float, smallest: float, norm: float = 1.0, phase: str = "width") -> StepReport:
    return StepReport(
        step=step,
        phase=phase,
        resolution=48,
        archs=(LARGEST, SMALLEST),
        roles=("largest", "smallest"),
        image_ids=torch.tensor([7, 11]),
        losses=[LossTerms(*(torch.tensor(value) for value in (total, 0.0, 0.0, 0.0))) for total in (largest, smallest)],
        distillation=None,
        gradient_norm=torch.tensor(norm),
        rate=0.1,
        data_seconds=0.0,
        seconds=1.0,
    )


@pytest.mark.parametrize(
    ("losses", "norm", "reason", "arch"),
    [
        ((1.0, float("nan")), 1.0, "the loss is nan", SMALLEST),
        ((float("inf"), 1.0), 1.0, "the loss is inf", LARGEST),
        ((1.0, 1.0), float("nan"), "the gradient is nan", LARGEST),
    ],
)
def test_the_first_step_that_is_not_finite_is_named_with_its_place(
    losses: tuple[float, float], norm: float, reason: str, arch: Any
) -> None:
    monitor = LossMonitor(10.0)
    for step in range(20):
        monitor.follow(report(step, *losses, norm) if step in (13, 17) else report(step, 1.0, 2.0))
    with pytest.raises(TrainingDiverged) as caught:
        monitor.read()
    assert str(caught.value) == f"{reason} at step 13, phase width, subnet {arch.describe()}, images 7, 11"


def test_a_loss_explodes_when_its_running_mean_is_ten_times_its_lowest_in_the_phase() -> None:
    monitor = LossMonitor(10.0)
    monitor.follow(report(0, 100.0, 1.0, phase="largest"))  # another phase has another scale
    for step in range(1, 30):
        monitor.follow(report(step, 1.0, 2.0))
    monitor.read()
    # The mean of the smallest goes from 2 towards 100: 2 * 0.9**n + 100 * (1 - 0.9**n) > 20 first at n = 2.
    for step in (30, 31, 32):
        monitor.follow(report(step, 1.0, 100.0))
    with pytest.raises(TrainingDiverged, match=r"the loss exploded: .* from 2 to 20\.6 at step 31, phase"):
        monitor.read()
    noisy = LossMonitor(10.0)
    for step in range(200):
        noisy.follow(report(step, 0.2 + 1.8 * (step % 10 == 0), 1.0))  # tenfold, as losses of single steps are
    noisy.read()


def test_figures_are_means_since_the_last_call_whenever_they_are_read() -> None:
    at_once, in_parts = LossMonitor(10.0), LossMonitor(10.0)
    for step in range(6):
        at_once.follow(report(step, 1.0 + step, 4.0 + 2 * step))
        in_parts.follow(report(step, 1.0 + step, 4.0 + 2 * step))
        if step == 2:
            in_parts.read()
            state, in_parts = in_parts.state(), LossMonitor(10.0)
            in_parts.load_state(state)
    at_once.read()
    in_parts.read()
    figures = at_once.figures()
    assert figures == in_parts.figures() == {"loss_gap": 5.5, "loss_largest": 3.5, "loss_smallest": 9.0}
    assert at_once.figures() == {}


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    adam = MaskedAdam([weight], clip_norm=1.0)
    weight.grad = torch.tensor([1.0, 2.0, 3.0])
    adam.step(0.1)
    before, moments = weight.detach().clone(), [moment.clone() for moment in adam.moments]
    for bad in (float("nan"), float("inf")):
        weight.grad = torch.tensor([1.0, bad, 0.0])
        assert not torch.isfinite(adam.step(0.1))
        assert torch.equal(weight, before)
        assert all(map(torch.equal, adam.moments, moments))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_running_out_of_memory_names_what_was_done_and_the_remedy(error: RuntimeError) -> None:
    explained = pytest.raises(UserError, match=r"^out of memory with 8 images; lower batch_size$")
    with explained, explain_out_of_memory("with 8 images", "lower batch_size"):
        raise error
    with pytest.raises(RuntimeError, match="other"), explain_out_of_memory("with 8 images", "lower batch_size"):
        raise RuntimeError("other")


def test_running_out_of_memory_in_a_step_names_its_subnet(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = tiny_trainer()

    def fail(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.supernet, "forward", fail)
    with pytest.raises(UserError, match=r"out of memory with 2 images of (32|48) px in subnet .*accumulate"):
        train(trainer)


def test_running_out_of_memory_in_the_frozen_teacher_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = tiny_trainer()
    taught = trainer._taught

    def fail(*arguments: Any) -> Any:
        taught(*arguments)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer, "_taught", fail)
    with pytest.raises(
        UserError, match=r"out of memory with 2 images of (32|48) px in the frozen teacher; .*accumulate"
    ):
        train(trainer)


def run_with_poison(folder: Path, poisoned: dict[int, int], every: int = 5) -> tuple[TrainingMonitor, list[str]]:
    """Train with a checkpoint every few steps; the loss of each step in ``poisoned`` is NaN that many times."""
    trainer = tiny_trainer()
    monitor = monitor_of(trainer)
    run_folder.write_config(folder, {})
    failures: list[str] = []

    def save() -> None:
        value = {"config": {}, "trainer": trainer.state(), "watch": monitor.state()}
        run_folder.save_checkpoint(folder, value)

    save()
    while trainer.current_phase() is not None:
        try:
            for step_report in steps(trainer):
                if poisoned.get(step_report.step, 0):
                    poisoned[step_report.step] -= 1
                    bad = replace(step_report.losses[0], total=torch.tensor(float("nan")))
                    step_report = replace(step_report, losses=[bad, *step_report.losses[1:]])
                monitor.follow(step_report)
                if trainer.step % every == 0 or trainer.step == NUM_STEPS:
                    monitor.losses.read()
                    save()
        except TrainingDiverged as failure:
            failures.append(str(failure))
            monitor.roll_back(failure, folder)
            save()
    return monitor, failures


def test_the_first_failure_rolls_back_to_the_last_checkpoint_with_half_the_rates(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second", "sound")]
    for folder in folders:
        folder.mkdir()
    monitors = [run_with_poison(folder, {9: 1})[0] for folder in folders[:2]]
    # Step 9 is in the phase of steps 8 to 13; the last checkpoint was made after 5 steps, before that phase.
    (rollback,) = monitors[0].rollbacks
    assert (rollback.failed_step, rollback.back_to, rollback.rate_factor) == (9, 5, 0.5)
    assert "the loss is nan at step 9, phase width" in rollback.reason
    assert monitors[0].trainer.step == NUM_STEPS
    assert is_equal(monitors[0].trainer.state(), monitors[1].trainer.state())
    assert monitors[0].state()["rollbacks"] == monitors[1].state()["rollbacks"]
    sound, failures = run_with_poison(folders[2], {})
    assert not failures
    assert not is_equal(sound.trainer.state()["network"], monitors[0].trainer.state()["network"])
    # Steps that ran twice count once: 4 + 4 steps of one subnet, 6 of three.
    counts = [sum(table["stages[0].depth"].values()) for table in monitors[0].coverage.counts.values()]
    assert counts == [4, 4, 18]


def test_a_second_failure_stops_and_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss is nan at step 9, .*images .* step 5 .*checkpoint\.pt"):
        run_with_poison(tmp_path, {9: 2})
    state = run_folder.load_checkpoint(tmp_path)
    assert (state["trainer"]["step"], state["trainer"]["rate_factor"]) == (5, 0.5)
    assert len(state["watch"]["rollbacks"]) == 1
    assert all(torch.isfinite(value).all() for value in state["trainer"]["network"].values())


def test_without_a_rollback_factor_the_first_failure_stops(tmp_path: Path) -> None:
    monitor = monitor_of(tiny_trainer(), rollback_factor=0.0)
    with pytest.raises(UserError, match=r"the loss is nan at step 3.*start a new run with a lower learning_rate"):
        monitor.roll_back(TrainingDiverged(report(3, 1.0, 1.0), LARGEST, "the loss is nan"), tmp_path)
