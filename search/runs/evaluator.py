"""Scores archs on fixed validation images, each only once, in one process or several (no torch)."""

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
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


Measure = Callable[[Sequence[Arch], PoseDataset], Iterable[tuple[int, Measurement]]]
"""Yields the number and the measurement of each arch, in any order."""

Result = dict[str, Any]
"""Score of an arch as plain values, which processes exchange."""


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
        measure: Computes the metrics of archs.
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

    def data_digest(self, num_images: int | None = None) -> str:
        """Return a checksum of images (all if None), their ground truth and all settings."""
        images = evenly_spread(self.images, num_images or len(self.images))
        return digest_of({"settings": self._settings, "truth": images.ground_truth(), "ids": [*images.image_ids]})

    def __call__(self, archs: Sequence[Arch], num_images: int | None = None) -> list[Score]:
        """Return the score of each arch on ``num_images`` images, on all if None or more than there are."""
        scores = dict(self.as_they_come(archs, num_images))
        return [scores[number] for number in range(len(archs))]

    def as_they_come(
        self, archs: Sequence[Arch], num_images: int | None = None
    ) -> Generator[tuple[int, Score], None, None]:
        """Yield the number and the score of each arch as soon as it is known; of several processes, all at the end."""
        num_images = min(num_images or len(self.images), len(self.images))
        results = self._own(archs, num_images)
        if self._processes.count > 1:
            results = self._gathered(archs, dict(results))
        for number, result in results:
            self.num_reused += result["cached"]
            self.num_measured += not result["cached"]
            if result["matches"] is not None:
                self._matches[num_images, archs[number]] = result["matches"]
            yield number, Score(num_images, result["metrics"])

    def _own(self, archs: Sequence[Arch], num_images: int) -> Iterator[tuple[int, Result]]:
        """Yield the number and the result of each arch that this process scores."""
        images, cache = self._set(num_images)
        missing = []
        for number in range(self._processes.index, len(archs), self._processes.count):
            metrics = cache.get(archs[number])
            if metrics is None:
                missing.append(number)
            else:
                yield number, _result(archs[number], metrics, cache.matches(archs[number]), is_cached=True)
        for i, measurement in self._measure([archs[number] for number in missing], images):
            arch, matches = archs[missing[i]], measurement.matches
            values = {name: float(value) for name, value in measurement.metrics.items()}
            cache.put(arch, values, matches)
            yield missing[i], _result(arch, values, matches, is_cached=False)

    def matches(self, arch: Arch, num_images: int) -> str | None:
        """Return the matches of ``arch`` on so many images, image by image as text; None if they are unknown."""
        own = self._matches.get((num_images, arch))
        return self._set(num_images)[1].matches(arch) if own is None else own

    def remember(self, arch: Arch, score: Score, matches: str) -> None:
        """Take a score that an earlier part of the same search has computed, as if it was in the cache."""
        cache = self._set(score.num_images)[1]
        if cache.matches(arch) is None:
            cache.put(arch, score.metrics, matches)

    def read_caches(self) -> None:
        """Read what other processes have added to the cache, such as other workers of the same search."""
        for _, cache in self._sets.values():
            cache.read()

    def _set(self, num_images: int) -> tuple[PoseDataset, ScoreCache]:
        """Return so many images and the cache of the scores on them."""
        if num_images not in self._sets:
            cache = ScoreCache(self._cache, self._weights, self.data_digest(num_images))
            self._sets[num_images] = evenly_spread(self.images, num_images), cache
        return self._sets[num_images]

    def _gathered(self, archs: Sequence[Arch], own: Mapping[int, Result]) -> Iterator[tuple[int, Result]]:
        """Exchange results with the other processes and yield them in the order of ``archs``."""
        results: dict[int, Result] = {}
        for text in self._processes.texts(json.dumps(own)):
            results |= {int(number): result for number, result in json.loads(text).items()}
        if [results[number]["digest"] for number in sorted(results)] != [arch.digest() for arch in archs]:
            raise RuntimeError("the processes disagree on which archs to score; start them with equal options")
        yield from sorted(results.items())


def _result(arch: Arch, metrics: Mapping[str, float], matches: str | None, *, is_cached: bool) -> Result:
    return {"digest": arch.digest(), "metrics": metrics, "matches": matches, "cached": is_cached}
