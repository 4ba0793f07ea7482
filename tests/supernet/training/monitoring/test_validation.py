"""Periodic validation warns when the AP of a subnet collapses, and not before."""

from typing import Any, cast

import pytest

from supernet.arch import Arch
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.evaluation.folding import folded
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.litepose import LitePose
from supernet.pose.evaluation import Evaluation
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.training.monitoring.monitor import TrainingMonitor
from supernet.training.monitoring.validation import CollapseDetector, PeriodicValidation
from supernet.weight_sharing import SuperNet
from tests.helpers.training import is_equal, steps, tiny_trainer, train


def warnings_of(*aps: tuple[float, float]) -> list[list[str]]:
    detector = CollapseDetector()
    return [detector.update(100 * i, largest, smallest, "small") for i, (largest, smallest) in enumerate(aps)]


def test_a_fall_below_half_of_the_best_is_a_warning() -> None:
    warnings = warnings_of((0.1, 0.1), (0.3, 0.2), (0.16, 0.19), (0.14, 0.19), (0.29, 0.05))
    assert warnings[:3] == [[], [], []]
    assert warnings[3] == ["AP of the largest subnet fell to 0.140 at step 300, from 0.300 at its best"]
    assert warnings[4] == ["AP of the smallest subnet fell to 0.050 at step 400, from 0.200 at its best"]


def test_small_aps_are_noise() -> None:
    assert warnings_of((0.04, 0.03), (0.0, 0.0), (0.01, 0.0), (0.0, 0.0)) == [[], [], [], []]


def test_a_smallest_subnet_that_stays_at_0_is_a_warning_while_the_largest_has_some_ap() -> None:
    warnings = warnings_of((0.2, 0.0), (0.2, 0.0), (0.2, 0.01), (0.2, 0.0))
    assert warnings == [[], ["AP of the smallest subnet stays at 0 at step 100, the largest has 0.200"], [], []]


def test_another_smallest_subnet_starts_without_a_best_and_a_resumed_detector_continues() -> None:
    detector, resumed = CollapseDetector(), CollapseDetector()
    detector.update(0, 0.3, 0.3, "kernel 3")
    assert detector.update(1, 0.3, 0.1, "depth 1") == []
    resumed.load_state(detector.state())
    for detector_or_resumed in (detector, resumed):
        assert len(detector_or_resumed.update(2, 0.1, 0.04, "depth 1")) == 2
    assert detector.state() == resumed.state()
    assert len(detector.warnings) == 2


class Scripted:
    """Stands for a scorer: gives the APs (largest, smallest) of one validation after the other."""

    def __init__(self, processes: Processes, *aps: tuple[float, float]) -> None:
        self.processes, self._aps = processes, iter([ap for pair in aps for ap in pair])

    def with_supernet(self, _: SuperNet) -> "Scripted":
        return self

    def __call__(self, _: Arch) -> Evaluation:
        return Evaluation({"AP": next(self._aps)}, [], [], "", 0.0)


def warnings_of_a_training(processes: Processes, *aps: tuple[float, float]) -> list[str]:
    """Validate a training twice in its phase of the largest subnet, and twice in that of elastic kernels."""
    trainer = tiny_trainer()
    validation = PeriodicValidation(cast(SubnetScorer, Scripted(processes, *aps)), 1)
    for trainer.step in (3, 4, 7, 8):
        validation.run_if_due(trainer)
    return validation.detector.warnings


def test_smaller_kernels_make_another_smallest_subnet() -> None:
    assert warnings_of_a_training(SINGLE_PROCESS, (0.3, 0.3), (0.3, 0.3), (0.3, 0.1), (0.3, 0.1)) == []
    assert len(warnings_of_a_training(SINGLE_PROCESS, (0.3, 0.3), (0.3, 0.3), (0.3, 0.3), (0.3, 0.1))) == 1


def test_only_the_main_process_warns(caplog: pytest.LogCaptureFixture) -> None:
    aps = ((0.3, 0.3), (0.1, 0.3), (0.3, 0.3), (0.3, 0.3))
    for index in range(2):
        assert len(warnings_of_a_training(Processes(index, 2), *aps)) == 1
        assert len(caplog.records) == 1


def test_validation_runs_at_its_steps_on_calibrated_subnets_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, evaluated = tiny_trainer(), tiny_trainer()
    images = SyntheticPeople(COCO, 4, 2, 64, 64)
    scorer = SubnetScorer(evaluated.supernet, images, images, InferenceSettings(), 4)
    scored: list[tuple[int, Any, float]] = []

    def fold(network: LitePose) -> LitePose:
        scored.append((evaluated.step, network.arch, float(network.get_buffer("first.0.1.running_var").mean())))
        return folded(network)

    def remember(*_: Any, **__: Any) -> Evaluation:
        return Evaluation({"AP": len(scored) / 10}, [], [], "", 0.0)

    monkeypatch.setattr("supernet.evaluation.subnet_scorer.folded", fold)
    monkeypatch.setattr("supernet.evaluation.subnet_scorer.evaluate", remember)
    monitor = TrainingMonitor(evaluated, 10.0, 0.5, PeriodicValidation(scorer, 5))
    figures: list[dict[str, float]] = []
    for _ in steps(evaluated):
        monitor.validate_if_due()
        monitor.validate_if_due()  # does nothing
        figures.append(monitor.figures())
    train(plain)
    space = evaluated.supernet.space
    assert [(step, arch.resolution) for step, arch, _ in scored] == [(5, 48), (5, 32), (10, 48), (10, 32)]
    # In the phase of elastic kernels the smallest subnet has small kernels and is otherwise the largest.
    assert scored[1][1] == evaluated.scheduled[1].space.smallest() != space.smallest() == scored[3][1]
    assert all(variance not in (0.0, 1.0) for _, _, variance in scored), "not calibrated"
    assert figures[4] == {"AP_largest": 0.1, "AP_smallest": 0.2}
    assert figures[5] == {}
    assert is_equal(plain.state(), evaluated.state())
