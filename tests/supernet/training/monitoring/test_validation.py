"""The alarm on periodic AP speaks when a subnet that was good no longer is, and not before."""

from typing import Any

import pytest

from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.evaluation import Evaluation
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.training.monitoring.monitor import TrainingMonitor
from supernet.training.monitoring.validation import CollapseDetector, PeriodicValidation
from tests.helpers.training import is_equal, tiny_trainer


def heard(*aps: tuple[float, float], name: str = "small") -> list[list[str]]:
    alarm = CollapseDetector()
    return [alarm.update(100 * i, largest, smallest, name) for i, (largest, smallest) in enumerate(aps)]


def test_a_fall_below_half_of_the_best_is_told() -> None:
    found = heard((0.1, 0.1), (0.3, 0.2), (0.16, 0.19), (0.14, 0.19), (0.29, 0.05))
    assert found[:3] == [[], [], []]
    assert found[3] == ["AP of the largest subnet fell to 0.140 at step 300, from 0.300 at its best"]
    assert found[4] == ["AP of the smallest subnet fell to 0.050 at step 400, from 0.200 at its best"]


def test_small_figures_are_noise() -> None:
    assert heard((0.04, 0.03), (0.0, 0.0), (0.01, 0.0), (0.0, 0.0)) == [[], [], [], []]


def test_a_smallest_subnet_that_stays_at_0_is_told_while_the_largest_has_some() -> None:
    found = heard((0.2, 0.0), (0.2, 0.0), (0.2, 0.01), (0.2, 0.0))
    assert found == [[], ["AP of the smallest subnet stays at 0 at step 100, the largest has 0.200"], [], []]


def test_another_smallest_subnet_counts_anew_and_a_resumed_alarm_goes_on() -> None:
    alarm, resumed = CollapseDetector(), CollapseDetector()
    alarm.update(0, 0.3, 0.3, "kernel 3")
    assert alarm.update(1, 0.3, 0.1, "depth 1") == []
    resumed.load_state(alarm.state())
    for each in (alarm, resumed):
        assert len(each.update(2, 0.1, 0.04, "depth 1")) == 2
    assert alarm.state() == resumed.state()
    assert len(alarm.alarms) == 2


def test_evaluations_come_at_their_steps_are_calibrated_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, evaluated = tiny_trainer(), tiny_trainer()
    images = SyntheticPeople(COCO, 4, 2, 64, 64)
    scorer = SubnetScorer(evaluated.supernet, images, images, InferenceSettings(), 4)
    scored: list[tuple[int, Any, float]] = []

    def remember(network: Any, *_: Any, **__: Any) -> Evaluation:
        scored.append((evaluated.step, network.arch, float(network.get_buffer("first.0.1.running_var").mean())))
        return Evaluation({"AP": len(scored) / 10}, [], [], "", 0.0)

    monkeypatch.setattr("supernet.evaluation.subnet_scorer.evaluate", remember)
    watch = TrainingMonitor(evaluated, 10.0, 0.5, PeriodicValidation(scorer, 5))
    figures: list[dict[str, float]] = []

    def on_step(_: object) -> None:
        watch.evaluate_if_due()
        watch.evaluate_if_due()  # once is enough
        figures.append(watch.figures())

    evaluated.run(on_step, lambda _: None)
    plain.run(lambda _: None, lambda _: None)
    space = evaluated.supernet.space
    assert [(step, arch.resolution) for step, arch, _ in scored] == [(5, 48), (5, 32), (10, 48), (10, 32)]
    # In the phase of elastic kernels the smallest has small kernels and all else largest.
    assert scored[1][1] == evaluated.scheduled[1].space.smallest() != space.smallest() == scored[3][1]
    assert all(variance not in (0.0, 1.0) for _, _, variance in scored), "not calibrated"
    assert figures[4] == {"AP_largest": 0.1, "AP_smallest": 0.2}
    assert figures[5] == {}
    assert is_equal(plain.state(), evaluated.state())
