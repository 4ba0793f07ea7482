"""The problem a search solves: a trained supernet, costs and budget, and the images to score on."""

import json
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import cv2
import torch

from search.budget import Budget, CostModel
from search.cost import macs, memory
from search.runs.evaluator import Evaluator, Measurement
from search.runs.score_cache import digest_of, file_digest
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import TrainedSupernet, load_supernet
from supernet.compute.cpu_tuning import prefer_throughput
from supernet.compute.device import device_memory
from supernet.compute.distributed import Processes
from supernet.compute.forked import can_fork, results_of
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from supernet.evaluation.calibration import GROUP_PIXELS
from supernet.evaluation.readiness import check_people, check_ready
from supernet.evaluation.subnet_scorer import SubnetScorer, chosen_dataset, split_for
from supernet.io.schema import check_numbers, from_mapping
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.data.cached import CachedDataset, load_into_memory
from supernet.pose.data.pose_dataset import PoseDataset, original_of
from supernet.pose.data.subset import evenly_spread, spread_indices
from supernet.pose.datasets import resolved, without_root
from supernet.pose.inference import InferenceSettings
from supernet.space import SearchSpace

MAPS_OF_CALIBRATION = 2
"""Memory of a process that scores an arch, over that of the maps of a calibration group of square images, folded.
Measured on 64 images of 4:3: 1.8 of the largest subnet of ``photos`` at 320 px, 1.7 of ``litepose`` at 448 px."""


@dataclass(frozen=True, kw_only=True)
class ProblemSettings:
    """The options that all search commands share; ``conf/evolve.yaml`` documents them."""

    supernet: str
    constraint: dict[str, Any]
    latency_table: str | None
    objectives: tuple[str, ...]
    num_images: Any
    top_k: int
    baseline: int
    num_calibration_images: int
    batch_size: int
    cache: str | None
    seed: int
    threads: int | None
    device: str
    runs: str
    name: str | None
    dataset: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range."""
        check_numbers(self, "top_k", "num_calibration_images", "batch_size", "threads", least=1)
        check_numbers(self, "baseline", "seed", least=0)
        self.numbers_of_images(1)

    def numbers_of_images(self, num_available: int) -> tuple[int, ...]:
        """Return the numbers of images to score on, ascending and at most ``num_available``.

        Raises:
            UserError: ``num_images`` is neither null nor a positive number nor an ascending list of these.
        """
        numbers = list(self.num_images) if isinstance(self.num_images, list | tuple) else [self.num_images]
        counts = numbers[:-1] if numbers and numbers[-1] is None else numbers
        if not numbers or any(type(n) is not int or n < 1 for n in counts) or counts != sorted(set(counts)):
            raise UserError(
                "num_images must be a positive number, null for all images, or an ascending list such as [50,200] or "
                f"[50,null], got {self.num_images}"
            )
        counts = [num_available if number is None else number for number in numbers]
        return tuple(sorted({min(count, num_available) for count in counts}))


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a search needs, loaded and checked.

    Attributes:
        trained: The trained supernet, on its device.
        model: Costs of archs.
        budget: Bounds that archs must meet.
        validation: Scores archs on the images that the search may use.
        test: Scores archs on images that have no part in the choice.
        test_is_validation: Whether the data set has the same images for both.
        identity: Short texts by name that are the same only for searches whose scores can be compared.
        latency_table: Source of predicted latencies.
        dataset_kind: Kind of the data set, such as "synthetic" or "coco".
    """

    trained: TrainedSupernet
    model: CostModel
    budget: Budget
    validation: Evaluator
    test: Evaluator
    test_is_validation: bool
    identity: dict[str, str]
    latency_table: LatencyTable | None
    dataset_kind: str

    @property
    def space(self) -> SearchSpace:
        """The space of the supernet."""
        return self.trained.supernet.space


def prepare(settings: ProblemSettings, processes: Processes) -> Problem:
    """Load and check all that a search needs, without writing anything.

    Args:
        settings: Options of the search.
        processes: Processes that score together, each a share of the archs.

    Raises:
        UserError: A wrong option, no such supernet, or a budget that no subnet fits; the budget is checked before any
            image is loaded.
    """
    trained = load_supernet(settings.supernet)
    table = None if settings.latency_table is None else LatencyTable.load(settings.latency_table)
    model = CostModel(trained.supernet.space, trained.keypoints.num, table)
    budget = Budget.from_mapping(settings.constraint, model)
    budget.check_reachable()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    prefer_throughput()
    cv2.setNumThreads(0)
    trained.supernet.to(processes.device(settings.device))
    weights = file_digest(trained.path)
    images = _load_images(settings, trained, processes)
    validation, test = _evaluators(settings, trained, images, weights, processes)
    constraint = {name: limit for name, limit in settings.constraint.items() if limit is not None}
    identity = {
        "the supernet weights": weights[:16],
        "the space": f"{model.space.name} ({model.space.digest()})",
        "the constraint": json.dumps(constraint),
        "the latency table": "none" if table is None else f"{table.describe()} ({digest_of(table.to_dict())})",
        "the data set": f"{images.description['kind']} ({digest_of(without_root(images.description))})",
        "validation images, calibration images and inference settings": validation.data_digest(),
    }
    return Problem(
        trained=trained,
        model=model,
        budget=budget,
        validation=validation,
        test=test,
        test_is_validation=images.description["test"] == images.description["val"],
        identity=identity,
        latency_table=table,
        dataset_kind=images.description["kind"],
    )


@dataclass(frozen=True)
class _Images:
    """The splits of a data set, and its description with all that it leaves open."""

    description: dict[str, Any]
    train: PoseDataset
    val: CachedDataset
    test: CachedDataset


def _load_images(settings: ProblemSettings, trained: TrainedSupernet, processes: Processes) -> _Images:
    """Return the images of a search, after checking that all can be read that it calibrates and scores on."""
    keypoints, owner = trained.keypoints, f"the supernet {trained.path}"
    dataset = chosen_dataset(settings.dataset, trained.dataset, settings.supernet)
    train = split_for(keypoints, dataset, "train", owner)
    description = resolved(dataset, keypoints, train)
    val = CachedDataset(split_for(keypoints, description, "val", owner))
    splits = {"val": val}
    if description["test"] != description["val"]:
        splits["test"] = CachedDataset(split_for(keypoints, description, "test", owner))
    check_ready(splits, train, settings.num_calibration_images, processes)
    for number in settings.numbers_of_images(len(val)):
        check_people("val", evenly_spread(val, number))
    return _Images(description, train, val, splits.get("test", val))


def _evaluators(
    settings: ProblemSettings, trained: TrainedSupernet, images: _Images, weights: str, processes: Processes
) -> tuple[Evaluator, Evaluator]:
    """Return what scores archs on val and on test; scores are kept under all that they depend on."""
    inference = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
    scorer = SubnetScorer(
        trained.supernet,
        images.train,
        images.val,
        inference,
        num_calibration_images=settings.num_calibration_images,
        batch_size=settings.batch_size,
        num_workers=torch.get_num_threads(),
    )
    chosen = spread_indices(len(images.train), settings.num_calibration_images)
    identity = {  # not the folder of the images, which is another one on another machine
        "dataset": {k: value for k, value in without_root(images.description).items() if k not in ("val", "test")},
        "inference": asdict(inference),
        "calibration_images": [images.train.image_ids[index] for index in chosen],
        "calibration_files": _file_sizes(images.train, chosen),
        "calibration_group_pixels": GROUP_PIXELS,
    }
    measure = partial(measure_subnets, scorer)
    val, test = (
        Evaluator(
            measure,
            split,
            weights,
            identity | {"split": images.description[name], "files": _file_sizes(split, range(len(split)))},
            settings.cache,
            processes,
        )
        for name, split in (("val", images.val), ("test", images.test))
    )
    return val, test


def _file_sizes(dataset: PoseDataset, indices: Iterable[int]) -> list[int | None]:
    """Return the bytes of image files, which change if the images do; built-in people have none."""
    original = original_of(dataset)
    return [original.file_size(index) for index in indices] if isinstance(original, CocoPeople) else []


def measure_subnets(
    scorer: SubnetScorer, archs: Sequence[Arch], images: PoseDataset
) -> Generator[tuple[int, Measurement], None, None]:
    """Measure archs and yield their numbers and measurements as they come.

    On a CPU, processes of this machine share the archs if that keeps at least half of the cores busy, because nothing
    of an arch waits for another; else they share the images of one arch after the other.
    """
    num_workers = min(scorer.num_workers, len(archs), _most_workers(scorer, archs))
    device = next(scorer.supernet.parameters()).device
    if num_workers < 2 or 2 * num_workers < scorer.num_workers or device.type != "cpu" or not can_fork():
        for number, arch in enumerate(archs):
            yield number, measure_subnet(scorer, arch, images)
        return
    load_into_memory(images)
    for resolution in {arch.resolution for arch in archs}:
        scorer.calibration_images(resolution)
    alone = scorer.with_workers(1)
    dearest_first = sorted(range(len(archs)), key=lambda number: -macs(archs[number], images.keypoints.num))

    def measure(task: int) -> Measurement:
        return measure_subnet(alone, archs[dearest_first[task]], images)

    with closing(results_of(num_workers, len(archs), measure, "scores subnets")) as results:
        for task, measurement in results:
            yield dearest_first[task], measurement


def _most_workers(scorer: SubnetScorer, archs: Sequence[Arch]) -> int:
    """Return how many processes can calibrate at the same time in the memory that is free."""
    free = device_memory(torch.device("cpu"))
    if free is None or not archs:
        return len(archs)
    most = max(
        memory(arch, scorer.evaluation_set.keypoints.num)
        * min(scorer.num_calibration_images, GROUP_PIXELS // arch.resolution**2)
        for arch in archs
    )
    return max(1, free.free // (MAPS_OF_CALIBRATION * most))


def measure_subnet(scorer: SubnetScorer, arch: Arch, images: PoseDataset) -> Measurement:
    """Extract, calibrate and evaluate ``arch`` on ``images``; return its metrics and matches."""
    evaluation = scorer.score(arch, images)
    return Measurement(evaluation.metrics, None if evaluation.matches is None else evaluation.matches.to_text())
