"""A run that is stopped anywhere continues to the same bits, and every part of a checkpoint is needed for that."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from supernet.compute.precision import Precision
from supernet.training.trainer import StepReport, Trainer
from tests.helpers.training import NUM_STEPS, STARTS, is_equal, monitor_of, steps, through_a_file, tiny_trainer

State = dict[str, Any]


@pytest.fixture(scope="module")
def whole() -> dict[int, State]:
    """The state of one uninterrupted run after each number of steps."""
    trainer = tiny_trainer()
    monitor = monitor_of(trainer)
    states = {}
    for report in steps(trainer):
        monitor.follow(report)
        monitor.losses.read()
        states[trainer.step] = copy.deepcopy({"trainer": trainer.state(), "monitor": monitor.state()})
    return states


def continued(state: State, whole: dict[int, State] | None = None) -> State:
    """Load ``state`` into a new run, in a process with another random state, and take the remaining steps.

    With the states of the uninterrupted run, it ends at the first state that differs.
    """
    trainer = tiny_trainer()
    monitor = monitor_of(trainer)
    torch.manual_seed(99)
    state = through_a_file(state)
    trainer.load_state(state["trainer"])
    monitor.load_state(state["monitor"])
    for report in steps(trainer):
        monitor.follow(report)
        monitor.losses.read()
        state = {"trainer": trainer.state(), "monitor": monitor.state()}
        if whole is not None and not is_equal(state, whole[trainer.step]):
            break
    return {"trainer": trainer.state(), "monitor": monitor.state()}


# Ten stops: before, at and after every switch of phases, where channels are sorted and a teacher is made, and others.
@pytest.mark.parametrize("stop", sorted({1, 11, 13} | {start + i for start in STARTS[1:] for i in (-1, 0, 1)} | {6}))
def test_a_run_stopped_anywhere_ends_with_the_same_bits(stop: int, whole: dict[int, State]) -> None:
    assert is_equal(continued(whole[stop]), whole[NUM_STEPS])


def test_every_part_of_what_is_saved_is_needed(whole: dict[int, State]) -> None:
    """Replace one part after the other by that of a new run, at a stop where all of them matter."""
    stop = 6  # within the phase that has a frozen teacher, before channels are sorted
    fresh = tiny_trainer().state()
    fresh["teacher"] = {name: torch.zeros_like(value) for name, value in whole[stop]["trainer"]["teacher"].items()}
    fresh["rate_factor"] = 0.5
    parts: list[tuple[str, ...]] = [("trainer", name) for name in whole[stop]["trainer"] if name != "adam"]
    parts += [("adam", "num_steps"), ("adam", "mean"), ("adam", "square")]
    parts += [("monitor", "losses"), ("monitor", "coverage")]
    unnoticed = []
    for part in parts:
        state = copy.deepcopy(whole[stop])
        match part:
            case ("adam", "num_steps"):
                state["trainer"]["adam"]["num_steps"] = 0
            case ("adam", moment):
                state["trainer"]["adam"]["moments"][("mean", "square").index(moment)].zero_()
            case ("monitor", name):
                state["monitor"][name] = monitor_of(tiny_trainer()).state()[name]
            case ("trainer", name):
                state["trainer"][name] = fresh[name]
        if is_equal(continued(state, whole), whole[NUM_STEPS]):
            unnoticed.append(part)
    assert not unnoticed
    assert len(parts) == 11


@pytest.mark.parametrize("name", ["step", "rate_factor", "network", "average", "num_updates", "adam", "teacher"])
def test_a_part_that_is_missing_is_not_passed_over(name: str, whole: dict[int, State]) -> None:
    state = copy.deepcopy(whole[6]["trainer"])
    del state[name]
    with pytest.raises(KeyError, match=name):
        tiny_trainer().load_state(state)


def test_a_switch_of_phases_happens_once(monkeypatch: pytest.MonkeyPatch, whole: dict[int, State]) -> None:
    sorted_at: list[tuple[int, list[str]]] = []
    original: Callable[..., None] = Trainer.sort_channels

    def remember(self: Trainer, dimensions: list[str]) -> None:
        sorted_at.append((self.step, list(dimensions)))
        original(self, dimensions)

    monkeypatch.setattr(Trainer, "sort_channels", remember)
    for stop in (7, 8, 9):
        continued(whole[stop])
    # A run that continues at the switch sorts; one that continues after it has sorted before the stop.
    assert [step for step, dimensions in sorted_at if dimensions] == [8, 8]


def test_a_rollback_to_before_the_teacher_removes_it(whole: dict[int, State]) -> None:
    trainer = tiny_trainer()
    trainer.load_state(whole[6]["trainer"])
    assert trainer.teacher is not None
    trainer.load_state(whole[3]["trainer"])
    assert trainer.teacher is None


@pytest.mark.parametrize(
    ("clip_norm", "average_decay", "rate_factor", "precision"),
    [(1.0, 0.9, 1.0, "float32"), (1e-3, 0.0, 0.5, "float32"), (1e9, 0.999, 10.0, "bfloat16")],
)
def test_weights_outside_every_sampled_slice_do_not_move_over_several_steps(
    clip_norm: float, average_decay: float, rate_factor: float, precision: Precision
) -> None:
    """Weights that no subnet of a step uses keep their value and moments in that step; averages only follow.

    This holds at both ends of all settings of the optimizer, which has no weight decay and no further momentum.
    """
    trainer = tiny_trainer(clip_norm=clip_norm, average_decay=average_decay, precision=precision)
    trainer.rate_factor = rate_factor
    before: State = {}

    def copied() -> State:
        names = list(trainer.weights)
        return {
            "weights": {name: weight.detach().clone() for name, weight in trainer.weights.items()},
            "moments": [
                {name: value.clone() for name, value in moment.items()}
                for moment in trainer.adam.moments_by_name(names)
            ],
            "average": {name: value.clone() for name, value in trainer.average.average.items()},
        }

    num_checked = {"weights": 0, "whole tensors": 0, "transforms": 0}

    def check(report: StepReport) -> None:
        now = copied()
        # A gradient of ones on every weight that a subnet reads marks the weights that it uses.
        probe = copy.deepcopy(trainer.supernet)
        for arch in report.archs:
            template = probe.templates(arch, True)
            sum(value.sum() for value in probe.slices(arch, template, buffers=False).values()).backward()  # type: ignore[union-attr]
        for name, weight in probe.named_parameters():
            used = torch.zeros_like(weight) if weight.grad is None else weight.grad
            idle = used == 0
            same = [(now["weights"], before["weights"]), *zip(now["moments"], before["moments"], strict=True)]
            assert all(torch.equal(new[name][idle], old[name][idle]) for new, old in same), (report.step, name)
            low = torch.minimum(before["average"][name], now["weights"][name])[idle] - 1e-6
            high = torch.maximum(before["average"][name], now["weights"][name])[idle] + 1e-6
            assert ((now["average"][name][idle] >= low) & (now["average"][name][idle] <= high)).all()
            num_checked["weights"] += int(idle.sum())
            num_checked["whole tensors"] += bool(idle.all())
            num_checked["transforms"] += name.startswith("kernel_transforms") and bool(idle.all())
        before.clear()
        before.update(now)

    while (scheduled := trainer.current_phase()) is not None:
        trainer.start_phase(scheduled)
        before.update(copied())  # after channels were sorted
        for batch, data_seconds in trainer.batches(scheduled):
            check(trainer.train_step(scheduled, batch, data_seconds))
    assert num_checked["weights"] > 500
    assert num_checked["whole tensors"] > 3
    assert num_checked["transforms"] > 3
