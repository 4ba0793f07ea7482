"""What a search works on: a trained supernet, costs and budget, and images to score on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import cv2
import torch

from search.budget import Budget, CostModel
from search.runs.evaluator import Evaluator
from search.runs.score_cache import digest_of, file_digest
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import TrainedSupernet, load_supernet
from supernet.compute.distributed import Processes
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import SubnetScorer, images_for
from supernet.io.schema import check_least, from_mapping
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.datasets import resolved
from supernet.pose.evaluation import evaluate
from supernet.pose.inference import InferenceSettings
from supernet.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class ProblemSettings:
    """The options that every search has; ``conf/evolve.yaml`` documents them."""

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
        """Raise UserError for counts below what makes sense."""
        least = {"top_k": 1, "baseline": 0, "seed": 0, "num_calibration_images": 1, "batch_size": 1, "threads": 1}
        check_least(self, least)
        self.numbers_of_images(1)

    def numbers_of_images(self, num_available: int) -> tuple[int, ...]:
        """Return the ascending numbers of images to score on, none above what there are.

        Raises:
            UserError: ``num_images`` is neither null nor a positive number nor an ascending list of such.
        """
        given = list(self.num_images) if isinstance(self.num_images, list | tuple) else [self.num_images]
        numbers = given[:-1] if given and given[-1] is None else given
        if not given or any(type(n) is not int or n < 1 for n in numbers) or numbers != sorted(set(numbers)):
            raise UserError(
                f"num_images is {self.num_images}; give a number from 1, null for all, or an ascending list such as "
                "[50,200] or [50,null]"
            )
        numbers = [num_available if number is None else number for number in given]
        return tuple(sorted({min(number, num_available) for number in numbers}))


@dataclass(frozen=True)
class Problem:
    """A search's problem, ready to be worked on.

    Attributes:
        trained: The supernet and what belongs to it, on its device.
        model: Costs of archs.
        budget: What archs must keep.
        validation: Scores on the images that the search may see.
        test: Scores on images that take no part in the choice.
        test_is_validation: Whether the data set has the same images for both.
        identity: What makes a search comparable with itself later, by name.
        latency_table: Where predicted latencies come from.
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
        """The supernet's space."""
        return self.trained.supernet.space

    @property
    def num_keypoints(self) -> int:
        """Keypoints per person."""
        return self.trained.keypoints.num


def prepare(settings: ProblemSettings, ranks: Processes) -> Problem:
    """Load and check all that a search needs; nothing is written.

    Args:
        settings: The search's options.
        ranks: Processes that score together, each a share of the archs.

    Raises:
        UserError: A wrong option, no such supernet, or a budget that no subnet fits; the last before any image is
            loaded.
    """
    trained = load_supernet(settings.supernet)
    table = None if settings.latency_table is None else LatencyTable.load(settings.latency_table)
    model = CostModel(trained.supernet.space, trained.keypoints.num, table)
    budget = Budget.from_mapping(settings.constraint, model)
    budget.check_reachable()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    cv2.setNumThreads(0)
    trained.supernet.to(ranks.device(settings.device))
    dataset = trained.dataset if settings.dataset is None else settings.dataset
    weights = file_digest(trained.path)

    def images(split: str) -> PoseDataset:
        return images_for(trained.keypoints, dataset, split, f"the supernet {trained.path}")

    train_set, val_set, test_set = images("train"), images("val"), images("test")
    described = resolved(dataset, trained.keypoints)
    inference = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
    scorer = SubnetScorer(
        trained.supernet,
        train_set,
        val_set,
        inference,
        num_calibration_images=settings.num_calibration_images,
        batch_size=settings.batch_size,
    )

    def evaluator(split: str, images: PoseDataset) -> Evaluator:
        decides = {
            "dataset": {key: value for key, value in described.items() if key not in ("val", "test")},
            "split": described[split],
            "inference": asdict(inference),
            "num_calibration_images": settings.num_calibration_images,
        }
        return Evaluator(partial(measured, scorer), CachedDataset(images), weights, decides, settings.cache, ranks)

    validation = evaluator("val", val_set)
    identity = {
        "the supernet weights": weights[:16],
        "the space": f"{trained.supernet.space.name} ({trained.supernet.space.digest()})",
        "the constraint": json.dumps({name: limit for name, limit in settings.constraint.items() if limit is not None}),
        "the latency table": "none" if table is None else f"{table.describe()} ({digest_of(table.to_dict())})",
        "the data set": f"{described['kind']} ({digest_of(described)})",
        "validation images and inference settings": validation.data_digest(),
    }
    return Problem(
        trained,
        model,
        budget,
        validation,
        evaluator("test", test_set),
        described["test"] == described["val"],
        identity,
        table,
        described["kind"],
    )


def measured(scorer: SubnetScorer, arch: Arch, images: PoseDataset) -> Mapping[str, float]:
    """Extract, calibrate and evaluate ``arch`` on ``images``."""
    network = scorer.subnet(arch)
    device = next(network.parameters()).device
    settings, batch_size = scorer.settings, scorer.batch_size
    return evaluate(network, images, arch.resolution, settings, batch_size=batch_size, device=device).metrics
