"""What AP depends on, image by image: the matches of detections with people, from which AP on any resample follows.

AP on a few hundred images is an estimate. :func:`resamples` draws images with replacement, and
:meth:`ImageMatches.average_precision` returns AP on each of these draws without running the network again, so that an
interval of AP, or of the difference of two networks on the same draws, takes milliseconds.

Source: the percentile bootstrap (Efron 1979), over images, because the people in one image are not independent. AP is
that of COCO's keypoint evaluation (``COCOeval.accumulate``), of which this is an independent implementation.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError

NUM_THRESHOLDS = 10
"""OKS 0.50, 0.55, .. 0.95."""
LEVEL = 0.9
"""Share of the resamples within an interval."""
NUM_RESAMPLES = 300
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST_BYTES = 2**26
"""Size limit of the matches of one network, in bytes."""
_MOST_ELEMENTS = 4_000_000
"""Numbers in memory at once, in a resample times thresholds times detections."""

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageMatches:
    """Detections on N images, D in all by falling score, with their matches at T OKS thresholds.

    Attributes:
        num_people: (N,) people who count, of each image.
        image: (D,) index of the image of each detection.
        matched: (D, T), whether a detection has a person.
        ignored: (D, T), whether it counts neither as right nor as wrong.
    """

    num_people: Counts
    image: Counts
    matched: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.num_people)

    @classmethod
    def from_evaluations(cls, evaluations: Sequence[Mapping[str, Any] | None]) -> Self:
        """Collect what pycocotools' ``evaluateImg`` returned for each image, None for one without anything.

        Detections that cannot change AP are left out: those ignored at all thresholds, and those below the last match.
        """
        num_people, image, scores, flags = [], [], [], []
        for i, evaluation in enumerate(evaluations):
            num_people.append(0 if evaluation is None else int(np.sum(np.asarray(evaluation["gtIgnore"]) == 0)))
            if evaluation is not None:
                scores.append(np.asarray(evaluation["dtScores"], np.float64))
                both = [np.asarray(evaluation[name]).T > 0 for name in ("dtMatches", "dtIgnore")]
                flags.append(np.stack(both, 1).reshape(-1, 2, NUM_THRESHOLDS))
                image.append(np.full(len(scores[-1]), i))
        joined = np.concatenate([np.zeros((0, 2, NUM_THRESHOLDS), bool), *flags])
        order = np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")
        order = order[~joined[order, 1].all(1)]
        right = np.flatnonzero((joined[order, 0] & ~joined[order, 1]).any(1))
        order = order[: right[-1] + 1 if len(right) else 0]
        images = np.concatenate([np.zeros(0, np.int64), *image])[order]
        return cls(np.array(num_people, np.int64), images, joined[order, 0], joined[order, 1])

    def average_precision(self, counts: Counts) -> Floats:
        """Return AP (R,) on each of R draws of the images; NaN for a draw without people.

        Args:
            counts: (R, N), how often each image is in each draw; ones give AP on all images.
        """
        right, wrong = (self.matched & ~self.ignored).T, (~self.matched & ~self.ignored).T
        people = counts @ self.num_people
        step = max(1, _MOST_ELEMENTS // max(1, right.size))
        values = np.full(len(counts), np.nan)
        for start in range(0, len(counts), step):
            part = slice(start, start + step)
            weight = counts[part][:, self.image][:, None]  # (r, 1, D)
            values[part] = _average_precision(right * weight, wrong * weight, people[part])
        return values

    def to_text(self) -> str:
        """Return all of it as text, about three letters a detection."""
        bits = 1 << np.arange(NUM_THRESHOLDS)
        columns = (self.num_people, self.image, self.matched @ bits, self.ignored @ bits)
        sizes = np.array([self.num_images, len(self.image)])
        content = b"".join(column.astype("<u4").tobytes() for column in (sizes, *columns))
        return base64.b64encode(zlib.compress(content, 9)).decode()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what :meth:`to_text` returned.

        Raises:
            UserError: It is something else.
        """
        try:
            stream = zlib.decompressobj()
            content = stream.decompress(base64.b64decode(text, validate=True), _MOST_BYTES)
            numbers = np.frombuffer(content, "<u4").astype(np.int64)
            num_images, num = numbers[:2].tolist()
            parts = np.split(numbers[2:], np.cumsum([num_images, num, num]))
        except (ValueError, TypeError, IndexError, zlib.error) as error:
            raise UserError(f"matches of images are damaged ({error}); run the search again") from error
        num_people, image, matched, ignored = parts
        whole = stream.eof and len(num_people) == num_images and len(image) == len(matched) == len(ignored) == num
        if not whole or image.max(initial=-1) >= num_images:
            raise UserError("matches of images are damaged: their numbers do not fit together; run the search again")
        bits = np.arange(NUM_THRESHOLDS)
        return cls(
            num_people, image, (matched[:, None] >> bits & 1).astype(bool), (ignored[:, None] >> bits & 1).astype(bool)
        )


def _average_precision(right: Counts, wrong: Counts, people: Counts) -> Floats:
    """Return AP (R,) from weights (R, T, D) of right and wrong detections, best score first, and people (R,)."""
    if not right.shape[2]:
        return np.where(people > 0, 0.0, np.nan)
    true_positives, false_positives = right.cumsum(2), wrong.cumsum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = true_positives / people[:, None, None]
    precision = true_positives / (true_positives + false_positives + np.spacing(1))
    precision = np.maximum.accumulate(precision[..., ::-1], 2)[..., ::-1]
    # Each of the 101 recalls takes the precision where it is first reached, so that a detection counts as often as it
    # reaches recalls.
    reached = np.searchsorted(_RECALLS, recall, side="right")
    reached[np.isnan(recall)] = 0
    values: Floats = (precision * np.diff(reached, axis=2, prepend=0)).sum(2).mean(1) / len(_RECALLS)
    return np.where(people > 0, values, np.nan)


def resamples(num_images: int, rng: np.random.Generator, num: int = NUM_RESAMPLES) -> Counts:
    """Return draws of ``num_images`` images with replacement, as how often each is drawn (num, num_images)."""
    drawn = rng.integers(num_images, size=(num, num_images))
    return np.stack([np.bincount(row, minlength=num_images) for row in drawn]).astype(np.int64)


def interval(values: Floats, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the ends of the middle ``level`` of the values, without NaN; None for fewer than two."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
