"""The option ``minutes`` chooses a number of steps, and changes nothing else of a run."""

import json
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from supernet.arch import layers
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.costs.analytic import macs
from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.keypoints import COCO
from supernet.pose.training.augmentation import Augmentation, Batch
from supernet.pose.training.loader import StepSampler, training_loader
from supernet.training import trainer as trainer_module
from supernet.training.assembly import new_trainer
from supernet.training.launch import start_or_resume
from supernet.training.phases import ScheduledPhase
from supernet.training.planning import time_budget
from supernet.training.planning.time_budget import Speeds, loading_seconds, measure, report_seconds, steps_within
from supernet.training.settings import TrainSettings
from supernet.training.setup import TrainingSetup, build_setup
from supernet.training.trainer import StepReport, Trainer
from supernet.weight_sharing import SuperNet
from tests.supernet.test_train import configuration, state_of
from tests.supernet.training.recorded_operations import RecordedOperations

K = COCO.num
SECONDS = (0.5, 1.0, 2.0, 2.0, 3.0, 4.0)
SPEEDS = Speeds(SECONDS, image_seconds=0.5, wait_seconds=0.25, seconds_per_mac=1e-6, step_images=4)


@pytest.fixture
def setup(tmp_path: Path) -> TrainingSetup:
    config = configuration(tmp_path, minutes=3.0)
    config["phases"] = [phase | {"share": share} for phase, share in zip(config["phases"], range(1, 7), strict=True)]
    return build_setup(from_mapping(TrainSettings, config, ""), SINGLE_PROCESS)


def seconds_of(setup: TrainingSetup, steps: int, num_loaded: int) -> float:
    """The time of so many steps, phase by phase."""
    shares = [phase.share for phase in setup.settings.phases]
    compute = sum(steps * share / sum(shares) * value for share, value in zip(shares, SECONDS, strict=True))
    return compute + num_loaded * SPEEDS.wait_seconds


def test_the_steps_fill_the_time_and_cached_images_are_loaded_once(setup: TrainingSetup) -> None:
    num_images, batch_size = len(setup.train_set), setup.settings.batch_size
    steps = steps_within(600.0, setup, SPEEDS)
    assert seconds_of(setup, steps, num_images) <= 600 < seconds_of(setup, steps + 1, num_images)
    uncached = replace(setup, settings=replace(setup.settings, image_memory_mib=0))
    steps = steps_within(600.0, uncached, SPEEDS)
    assert seconds_of(setup, steps, batch_size * steps) <= 600 < seconds_of(setup, steps + 1, batch_size * (steps + 1))


def test_a_time_that_is_too_short_is_refused_with_one_that_is_long_enough(setup: TrainingSetup) -> None:
    with pytest.raises(UserError, match=r"minutes .* got 3\.0; give at least (\S+)$") as refused:
        steps_within(10.0, setup, SPEEDS)
    enough = float(str(refused.value).rpartition(" ")[2])
    assert enough > 3
    assert steps_within(10.0 + 60 * (enough - 3) + 1, setup, SPEEDS) >= 21  # the phases' shares are 1 to 6


def test_the_report_takes_the_time_of_its_subnets(setup: TrainingSetup) -> None:
    def report(**changes: object) -> float:
        return report_seconds(replace(setup, settings=replace(setup.settings, **changes)), SPEEDS)  # type: ignore[arg-type]

    both = sum(macs(layers(arch, K)) for arch in (setup.space.largest(), setup.space.smallest()))
    more_images = report(num_calibration_images=104, report_random=0) - report(report_random=0)
    assert more_images == pytest.approx(100 * both * SPEEDS.seconds_per_mac)
    mirrored = replace(setup.settings.evaluation, flip_test=not setup.settings.evaluation.flip_test)
    change = abs(report(evaluation=mirrored, report_random=0) - report(report_random=0))
    assert change == pytest.approx(len(setup.test_set) * both * SPEEDS.seconds_per_mac)
    assert report(report_random=2) > report(report_random=0) > report(report_random=0, num_calibration_images=1)


def test_validations_take_time_from_the_steps(tmp_path: Path) -> None:
    config = configuration(tmp_path, minutes=3.0, evaluate_every=4, num_evaluate_images=4)
    config["phases"] = [
        {"name": "largest", "share": 1, "elastic": [], "subnets": ["largest"], "learning_rate": 1e-2},
        {"name": "width", "share": 2, "elastic": ["width"], "subnets": ["random"], "learning_rate": 1e-2},
    ]
    setup = build_setup(from_mapping(TrainSettings, config, ""), SINGLE_PROCESS)
    assert setup.val_set is not None
    speeds, shared = measure(setup, SINGLE_PROCESS), measure(setup, Twin(0, 2))
    largest, narrow = setup.space.largest(), setup.space.restrict(["width"]).smallest()
    of_phases = [2 * macs(layers(largest, K)), macs(layers(largest, K)) + macs(layers(narrow, K))]
    num_passes = 4 + len(setup.val_set) * (1 + setup.settings.evaluation.flip_test)
    num_macs = num_passes * (of_phases[0] + 2 * of_phases[1]) / 3
    grouping = 2 * len(setup.val_set) * time_budget._GROUPING_SECONDS
    for found, processes in ((speeds, 1), (shared, 2)):
        validation = found.validation_seconds * processes * 4
        assert validation == pytest.approx(num_macs * found.seconds_per_mac + grouping)
    slow = replace(SPEEDS, step_seconds=(0.5, 2.0), wait_seconds=0.0, validation_seconds=1.0)
    assert steps_within(600.0, setup, slow) == 240  # a step takes 1.5 s on average


def test_a_run_of_some_minutes_is_the_run_of_the_steps_that_it_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[float] = []

    def chosen(seconds: float, setup: TrainingSetup, speeds: Speeds) -> int:
        seen.extend([seconds, *speeds.step_seconds])
        return 13

    monkeypatch.setattr(time_budget, "steps_within", chosen)
    caplog.set_level("INFO")
    config = configuration(tmp_path / "minutes", minutes=30.0, resume="auto")
    start_or_resume(config, [])
    assert 1000 < seen[0] < 1800
    assert len(seen) == 7
    assert all(value > 0 for value in seen)
    assert "minutes=30: 13 steps" in caplog.text
    start_or_resume(configuration(tmp_path / "steps", steps=13), [])
    folders = [tmp_path / name / "train" / "run" for name in ("minutes", "steps")]
    first, second = (state_of(folder / "supernet.pt") for folder in folders)
    assert all(torch.equal(first[name], second[name]) for name in second)
    assert json.loads((folders[0] / "summary.json").read_text())["steps"] == 13
    with pytest.raises(UserError, match="is finished"):  # and not: steps differ
        start_or_resume(config, ["resume=auto", "minutes=30"])


def test_what_is_measured_is_the_time_of_the_steps(setup: TrainingSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def later(_: object) -> float:
        nonlocal now
        now += 1.0
        return now

    monkeypatch.setattr(time_budget, "_now", later)
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)  # images take no time
    speeds = measure(setup, SINGLE_PROCESS)
    assert speeds.image_seconds == speeds.wait_seconds == 0
    # Each measured step took a second; their subnets differ from the mean ones by less than a factor of three.
    assert all(1 / 3 < value < 3 for value in speeds.step_seconds)


@pytest.mark.parametrize("fixed_shapes", [False, True])
def test_steps_that_prepare_new_shapes_are_not_measured(
    fixed_shapes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, steps=400, fixed_shapes=fixed_shapes)
    setup = build_setup(from_mapping(TrainSettings, config, ""), SINGLE_PROCESS)
    assert any(len(scheduled.resolutions) > 1 for scheduled in setup.scheduled)
    train_step, now, preparation = Trainer.train_step, 0.0, 0.0
    prepared: set[tuple[str, int]] = set()

    def slow_at_first(trainer: Trainer, scheduled: ScheduledPhase, batch: Batch, wait: float) -> StepReport:
        nonlocal now
        report = train_step(trainer, scheduled, batch, wait)
        shapes = (report.phase, report.resolution if fixed_shapes else 0)
        now += 1.0 if shapes in prepared else 1.0 + preparation
        prepared.add(shapes)
        return report

    monkeypatch.setattr(Trainer, "train_step", slow_at_first)
    monkeypatch.setattr(time_budget, "_now", lambda _: now)
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)  # images take no time
    expected = measure(setup, SINGLE_PROCESS).step_seconds
    preparation = 100.0
    prepared.clear()
    assert measure(setup, SINGLE_PROCESS).step_seconds == pytest.approx(expected)


def test_measuring_leaves_no_recordings_behind(setup: TrainingSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Trainer]] = []

    def new(setup: TrainingSetup, supernet: SuperNet, processes: Processes) -> Trainer:
        trainer = new_trainer(setup, supernet, processes)
        made.append(weakref.ref(trainer))
        return trainer

    monkeypatch.setattr(trainer_module, "CudaGraphs", RecordedOperations)
    monkeypatch.setattr(time_budget, "new_trainer", new)
    scheduled = setup.scheduled[:1]
    settings = replace(setup.settings, phases=setup.settings.phases[:1], cuda_graphs=True)
    measure(replace(setup, settings=settings, scheduled=scheduled), SINGLE_PROCESS)
    assert [trainer() for trainer in made] == [None]


def test_what_is_measured_multiplies_as_in_the_run(setup: TrainingSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    train_step, evaluation = Trainer.train_step, time_budget._evaluation_seconds
    allowed: dict[str, set[tuple[bool, bool]]] = {"step": set(), "evaluation": set()}

    def note(kind: str) -> None:
        allowed[kind].add((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))

    def step(trainer: Trainer, scheduled: ScheduledPhase, batch: Batch, wait: float) -> StepReport:
        note("step")
        return train_step(trainer, scheduled, batch, wait)

    def evaluated(setup: TrainingSetup, trainer: Trainer) -> float:
        note("evaluation")
        return evaluation(setup, trainer)

    monkeypatch.setattr(Trainer, "train_step", step)
    monkeypatch.setattr(time_budget, "_evaluation_seconds", evaluated)
    measure(setup, SINGLE_PROCESS)
    assert allowed == {"step": {(True, True)}, "evaluation": {(False, False)}}


@pytest.mark.parametrize(
    ("num_workers", "batch_seconds", "waiting"),
    [(0, 0.5, 0.5), (4, 3.0, 0.75)],
)
def test_steps_wait_for_images_only_as_long_as_workers_take(
    num_workers: int, batch_seconds: float, waiting: float, setup: TrainingSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = Trainer.batches

    def timed(trainer: Trainer, scheduled: ScheduledPhase) -> Iterator[tuple[Batch, float]]:
        # With workers, the first batch takes three seconds; others are ready by then.
        for number, (batch, _) in enumerate(batches(trainer, scheduled)):
            yield batch, 0.5 if not num_workers else 0.0 if number else 3.0

    monkeypatch.setattr(Trainer, "batches", timed)
    monkeypatch.setattr(time_budget, "step_costs", lambda _: [0.0] * 6)  # steps take no time

    def loader(dataset: PoseDataset, sampler: StepSampler, augmentation: Augmentation, _: int) -> Iterator[Batch]:
        return training_loader(dataset, sampler, augmentation, 0)  # it takes no processes to pretend how long they take

    monkeypatch.setattr(trainer_module, "training_loader", loader)
    speeds = measure(replace(setup, settings=replace(setup.settings, num_workers=num_workers)), SINGLE_PROCESS)
    per_batch = setup.settings.batch_size
    assert speeds.image_seconds * per_batch == pytest.approx(batch_seconds)
    assert speeds.wait_seconds * per_batch == pytest.approx(waiting)


class Twin(Processes):
    """One of several processes, of which the others compute what it does."""

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.mul_(self.count)

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        return [tensor] * self.count

    def copy_from_main(self, tensors: Iterable[torch.Tensor]) -> None:
        pass


def test_processes_load_their_images_of_a_step_at_the_same_time(
    setup: TrainingSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = Trainer.batches

    def timed(trainer: Trainer, scheduled: ScheduledPhase) -> Iterator[tuple[Batch, float]]:
        for batch, _ in batches(trainer, scheduled):
            yield batch, 0.5

    monkeypatch.setattr(Trainer, "batches", timed)
    monkeypatch.setattr(time_budget, "step_costs", lambda _: [0.0] * 6)  # steps take no time
    speeds = measure(setup, Twin(0, 2))
    uncached = replace(setup, settings=replace(setup.settings, image_memory_mib=0))
    assert loading_seconds(uncached, speeds, 100) == pytest.approx(50.0)
    assert steps_within(100.1, uncached, speeds) == 200
    # Both have loaded all images when each of them has had as many as there are.
    num_images, own = len(setup.train_set), setup.settings.batch_size // 2
    assert loading_seconds(setup, speeds, 10**6) == pytest.approx(0.5 * num_images / own)


@pytest.mark.slow
def test_a_run_ends_in_the_time_that_it_was_given(tmp_path: Path) -> None:
    start = time.perf_counter()
    start_or_resume(configuration(tmp_path, minutes=0.75, batch_size=16), [])
    seconds = time.perf_counter() - start
    assert seconds == pytest.approx(45, rel=0.25)
