"""Scores of archs on fixed validation images, each computed once, by one process or several (no torch)."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from search.candidate import Score
from search.runs.score_cache import ScoreCache, digest_of
from supernet.arch import Arch
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import evenly_spread

Measure = Callable[[Arch, PoseDataset], Mapping[str, float]]
"""Metrics of an arch on images, AP among them."""


class Processes(Protocol):
    """The processes that score together; each calls the same functions in the same order."""

    @property
    def index(self) -> int:
        """This process, from 0."""
        ...

    @property
    def count(self) -> int:
        """Processes in all."""
        ...

    def texts(self, text: str) -> list[str]:
        """Return every process's text, in order."""
        ...


class Evaluator:
    """Scores archs on any number of images of one set; scores are kept on disk and shared between searches.

    Of each list of archs, process r of n scores those at r, r + n, r + 2 n, ...; all get all scores.

    Args:
        measure: Metrics of an arch, a function of arch and images.
        images: The whole set; fewer images are evenly spread over it.
        weights: Digest of the weights that ``measure`` uses.
        settings: Plain values of all else that decides a score.
        cache: Folder of kept scores; None keeps them in memory only.
        processes: Those that score together.

    Attributes:
        num_measured: Scores computed, by all processes together.
        num_reused: Scores that were known already.
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

    @property
    def num_processes(self) -> int:
        """How many archs are scored at once."""
        return self._processes.count

    def data_digest(self, num_images: int | None = None) -> str:
        """Return digits that identify images, their ground truth and all settings; all images if None."""
        images = evenly_spread(self.images, num_images or len(self.images))
        return digest_of({"settings": self._settings, "truth": images.ground_truth(), "ids": [*images.image_ids]})

    def __call__(self, archs: Sequence[Arch], num_images: int | None = None) -> list[Score]:
        """Return the score of each arch on ``num_images`` images, on all if None or more than there are."""
        number = min(num_images or len(self.images), len(self.images))
        if number not in self._sets:
            cache = ScoreCache(self._cache, self._weights, self.data_digest(number))
            self._sets[number] = evenly_spread(self.images, number), cache
        images, cache = self._sets[number]
        mine = {}
        for i in range(self._processes.index, len(archs), self._processes.count):
            known = cache.get(archs[i])
            found = {name: float(value) for name, value in (known or self._measure(archs[i], images)).items()}
            if known is None:
                cache.put(archs[i], found)
            mine[i] = {"digest": archs[i].digest(), "metrics": found, "known": known is not None}
        return [Score(number, metrics) for metrics in self._gathered(archs, mine)]

    def _gathered(self, archs: Sequence[Arch], mine: Mapping[int, Any]) -> list[dict[str, float]]:
        """Return the metrics that all processes found, in the order of ``archs``."""
        told: dict[int, Any] = {}
        for text in self._processes.texts(json.dumps(mine)):
            told |= {int(i): found for i, found in json.loads(text).items()}
        if [told[i]["digest"] for i in sorted(told)] != [arch.digest() for arch in archs]:
            raise RuntimeError("the processes disagree on which archs to score; start them with equal options")
        num_known = sum(found["known"] for found in told.values())
        self.num_reused += num_known
        self.num_measured += len(told) - num_known
        return [told[i]["metrics"] for i in range(len(archs))]
