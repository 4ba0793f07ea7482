"""Losses that are not sound numbers are found with their place, and figures are means of what was seen."""

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
from tests.helpers.training import NUM_STEPS, SPACE, is_equal, tiny_trainer, watched

LARGEST, SMALLEST = SPACE.largest(), SPACE.smallest()


def report(step: int, largest: float, smallest: float, norm: float = 1.0, phase: str = "width") -> StepReport:
    losses = [LossTerms(*(torch.tensor(value) for value in (total, 0.0, 0.0, 0.0))) for total in (largest, smallest)]
    roles, ids = ("largest", "smallest"), torch.tensor([7, 11])
    return StepReport(step, phase, 48, (LARGEST, SMALLEST), roles, ids, losses, None, torch.tensor(norm), 0.1, 0.0, 1.0)


@pytest.mark.parametrize(
    ("losses", "norm", "told", "arch"),
    [
        ((1.0, float("nan")), 1.0, "the loss is nan", SMALLEST),
        ((float("inf"), 1.0), 1.0, "the loss is inf", LARGEST),
        ((1.0, 1.0), float("nan"), "the gradient is nan", LARGEST),
    ],
)
def test_the_first_step_that_is_not_finite_is_named_with_its_place(
    losses: tuple[float, float], norm: float, told: str, arch: Any
) -> None:
    watch = LossMonitor(10.0)
    for step in range(20):
        watch.follow(report(step, *losses, norm) if step in (13, 17) else report(step, 1.0, 2.0))
    with pytest.raises(TrainingDiverged) as caught:
        watch.read()
    assert str(caught.value) == f"{told} at step 13, phase width, subnet {arch.describe()}, images 7, 11"


def test_a_loss_explodes_when_its_running_mean_is_ten_times_its_lowest_in_the_phase() -> None:
    watch = LossMonitor(10.0)
    watch.follow(report(0, 100.0, 1.0, phase="largest"))  # another phase has another scale
    for step in range(1, 30):
        watch.follow(report(step, 1.0, 2.0))
    watch.read()
    # The mean of the smallest goes from 2 towards 100: 2 * 0.9**n + 100 * (1 - 0.9**n) > 20 first at n = 2.
    for step in (30, 31, 32):
        watch.follow(report(step, 1.0, 100.0))
    with pytest.raises(
        TrainingDiverged, match=r"the loss exploded: its mean is 20\.6 after it had been 2 at step 31, phase"
    ):
        watch.read()
    noisy = LossMonitor(10.0)
    for step in range(200):
        noisy.follow(report(step, 0.2 + 1.8 * (step % 10 == 0), 1.0))  # tenfold, as losses of single steps are
    noisy.read()


def test_figures_are_means_since_the_last_call_whenever_they_are_read() -> None:
    at_once, in_parts = LossMonitor(10.0), LossMonitor(10.0)
    steps = [report(step, 1.0 + step, 4.0 + 2 * step) for step in range(6)]
    for each in steps:
        at_once.follow(each)
        in_parts.follow(each)
        if each.step == 2:
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
def test_running_out_of_memory_is_told_with_subnet_resolution_and_batch(error: RuntimeError) -> None:
    with (
        pytest.raises(UserError, match=r"out of memory with 8 images of 48 px in subnet 48 px, stem 8.*lower batch_"),
        explain_out_of_memory(LARGEST, 8, 48),
    ):
        raise error
    with pytest.raises(RuntimeError, match="other"), explain_out_of_memory(LARGEST, 8, 48):
        raise RuntimeError("other")


def test_running_out_of_memory_in_a_step_names_the_subnet_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = tiny_trainer()

    def fail(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.supernet, "forward", fail)
    with pytest.raises(UserError, match=r"out of memory with 2 images of (32|48) px in subnet"):
        trainer.run(lambda _: None, lambda _: None)


def run_with_poison(folder: Path, poisoned: dict[int, int], every: int = 5) -> tuple[TrainingMonitor, list[str]]:
    """Train with a checkpoint every few steps, the loss of some steps being NaN as often as told."""
    trainer = tiny_trainer()
    watch = watched(trainer)
    run_folder.write_config(folder, {})
    told: list[str] = []

    def save() -> None:
        value = {"config": {}, "trainer": trainer.state(), "watch": watch.state()}
        run_folder.save_checkpoint(folder, value)

    def on_step(each: StepReport) -> None:
        if poisoned.get(each.step, 0):
            poisoned[each.step] -= 1
            bad = replace(each.losses[0], total=torch.tensor(float("nan")))
            each = replace(each, losses=[bad, *each.losses[1:]])
        watch.follow(each)
        if trainer.step % every == 0 or trainer.step == NUM_STEPS:
            watch.losses.read()
            save()

    save()
    while True:
        try:
            trainer.run(on_step, lambda _: None)
            return watch, told
        except TrainingDiverged as failure:
            told.append(str(failure))
            watch.roll_back(failure, folder)
            save()


def test_the_first_failure_goes_back_to_the_last_checkpoint_with_half_the_rates(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other", "sound")]
    for folder in folders:
        folder.mkdir()
    watches = [run_with_poison(folder, {9: 1})[0] for folder in folders[:2]]
    # Step 9 belongs to the phase of steps 8 to 13; the last checkpoint had seen 5 steps, before that phase.
    (rollback,) = watches[0].rollbacks
    assert (rollback.failed_step, rollback.back_to, rollback.rate_factor) == (9, 5, 0.5)
    assert "the loss is nan at step 9, phase width" in rollback.reason
    assert watches[0].trainer.step == NUM_STEPS
    assert is_equal(watches[0].trainer.state(), watches[1].trainer.state())
    assert watches[0].state()["rollbacks"] == watches[1].state()["rollbacks"]
    sound, told = run_with_poison(folders[2], {})
    assert not told
    assert not is_equal(sound.trainer.state()["network"], watches[0].trainer.state()["network"])
    # What was run twice counts once: 4 + 4 steps of one subnet, 6 of three.
    counts = [sum(table["stages[0].depth"].values()) for table in watches[0].coverage.counts.values()]
    assert counts == [4, 4, 18]


def test_a_second_failure_stops_and_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    told = r"the loss is nan at step 9, .*images .* after a return to step 5 with lower rates; .*checkpoint\.pt"
    with pytest.raises(UserError, match=told):
        run_with_poison(tmp_path, {9: 2})
    state = run_folder.load_checkpoint(tmp_path)
    assert (state["trainer"]["step"], state["trainer"]["rate_factor"]) == (5, 0.5)
    assert len(state["watch"]["rollbacks"]) == 1
    assert all(torch.isfinite(value).all() for value in state["trainer"]["network"].values())


def test_without_a_rollback_factor_the_first_failure_stops(tmp_path: Path) -> None:
    watch = watched(tiny_trainer(), rollback_factor=0.0)
    with pytest.raises(UserError, match=r"the loss is nan at step 3.*start a new run with a lower learning_rate"):
        watch.roll_back(TrainingDiverged(report(3, 1.0, 1.0), LARGEST, "the loss is nan"), tmp_path)
