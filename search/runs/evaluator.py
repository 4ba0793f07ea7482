"""Scores archs on fixed validation images, each only once, in one process or several (no torch)."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from search.candidate import Score
from search.runs.score_cache import ScoreCache, digest_of
from supernet.arch import Arch
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import evenly_spread


class Measurement(NamedTuple):
    """Metrics of an arch, including AP, and its matches image by image as text where there are any."""

    metrics: Mapping[str, float]
    matches: str | None = None


Measure = Callable[[Arch, PoseDataset], Measurement]


class Processes(Protocol):
    """The processes that score together; all call the same functions in the same order."""

    @property
    def index(self) -> int:
        """This process, from 0."""
        ...

    @property
    def count(self) -> int:
        """Processes in all."""
        ...

    def texts(self, text: str) -> list[str]:
        """Return the texts of all processes, in order."""
        ...


class Evaluator:
    """Scores archs on any number of images of one data set; a cache on disk shares scores between searches.

    Of each list of archs, process r of n scores those at r, r + n, r + 2 n, ...; all get all scores.

    Args:
        measure: Computes the metrics of an arch.
        images: The whole data set; fewer images are spread evenly over it.
        weights: Checksum of the weights that ``measure`` uses.
        settings: Plain values of everything else that a score depends on.
        cache: Folder of the cached scores; None keeps them in memory only.
        processes: The processes that score together.

    Attributes:
        num_measured: Scores computed, by all processes together.
        num_reused: Scores taken from the cache.
    """

    def __init__(
        self,
        measure: Measure,
        images: PoseDataset,
        weights: str,
        settings: Mapping[str, Any],
        cache: str | Path | None,
        processes: Processes,
    ) -> None:
        self.images = images
        self.num_measured = self.num_reused = 0
        self._measure, self._processes, self._cache = measure, processes, cache
        self._weights, self._settings = weights, dict(settings)
        self._sets: dict[int, tuple[PoseDataset, ScoreCache]] = {}
        self._matches: dict[tuple[int, Arch], str] = {}

    @property
    def num_processes(self) -> int:
        """Number of archs that are scored at the same time."""
        return self._processes.count

    def data_digest(self, num_images: int | None = None) -> str:
        """Return a checksum of images (all if None), their ground truth and all settings."""
        images = evenly_spread(self.images, num_images or len(self.images))
        return digest_of({"settings": self._settings, "truth": images.ground_truth(), "ids": [*images.image_ids]})

    def __call__(self, archs: Sequence[Arch], num_images: int | None = None) -> list[Score]:
        """Return the score of each arch on ``num_images`` images, on all if None or more than there are."""
        number = min(num_images or len(self.images), len(self.images))
        if number not in self._sets:
            cache = ScoreCache(self._cache, self._weights, self.data_digest(number))
            self._sets[number] = evenly_spread(self.images, number), cache
        images, cache = self._sets[number]
        own = {}
        for i in range(self._processes.index, len(archs), self._processes.count):
            cached = cache.get(archs[i])
            if cached is None:
                metrics, matches = self._measure(archs[i], images)
                metrics = {name: float(value) for name, value in metrics.items()}
                cache.put(archs[i], metrics, matches)
            else:
                metrics, matches = cached, cache.matches(archs[i])
            own[i] = {"digest": archs[i].digest(), "metrics": metrics, "matches": matches, "cached": cached is not None}
        results = self._gathered(archs, own)
        known = {(number, archs[i]): result["matches"] for i, result in enumerate(results)}
        self._matches |= {key: matches for key, matches in known.items() if matches is not None}
        return [Score(number, result["metrics"]) for result in results]

    def matches(self, arch: Arch, num_images: int) -> str | None:
        """Return the matches of ``arch`` on so many images, image by image as text; None if they are unknown."""
        return self._matches.get((num_images, arch))

    def _gathered(self, archs: Sequence[Arch], own: Mapping[int, Any]) -> list[Any]:
        """Exchange results with the other processes and return them in the order of ``archs``."""
        results: dict[int, Any] = {}
        for text in self._processes.texts(json.dumps(own)):
            results |= {int(i): result for i, result in json.loads(text).items()}
        if [results[i]["digest"] for i in sorted(results)] != [arch.digest() for arch in archs]:
            raise RuntimeError("the processes disagree on which archs to score; start them with equal options")
        num_cached = sum(result["cached"] for result in results.values())
        self.num_reused += num_cached
        self.num_measured += len(results) - num_cached
        return [results[i] for i in range(len(archs))]
