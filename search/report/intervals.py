"""Intervals of AP and of differences of AP, by resampling the images that subnets were scored on (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from search.features import Floats
from search.report.image_results import Matches
from supernet.pose.metrics.image_matches import LEVEL, Counts, ImageMatches, interval, resamples

Interval = tuple[float, float]
PERCENT = f"{LEVEL:.0%}".replace("%", " %")
MOST_SUBNETS = 300
"""Subnets whose intervals a report shows, so that it takes seconds: the best ones, where there are more."""


@dataclass(frozen=True)
class Intervals:
    """Intervals of the subnets of one search.

    All subnets are resampled with the same images, so that the interval of a difference leaves out what is common to
    both: images that are easy or hard for every subnet.

    Attributes:
        matches: Of each subnet image by image, as the search kept them.
    """

    matches: Matches
    _draws: dict[int, Counts] = field(default_factory=dict, repr=False)
    _aps: dict[tuple[str, int, str], Floats] = field(default_factory=dict, repr=False)

    def of(self, split: str, num_images: int | None, digest: str) -> Interval | None:
        """Return the interval of a subnet's AP on so many images of a split, None without its matches."""
        aps = self.resampled(split, num_images, digest)
        return None if aps is None else interval(aps)

    def difference(self, split: str, num_images: int | None, digest: str, other: str) -> Interval | None:
        """Return the interval of the AP of one subnet minus that of another on the same images."""
        first, second = (self.resampled(split, num_images, name) for name in (digest, other))
        return None if first is None or second is None else interval(first - second)

    def difference_from_mean(
        self, split: str, num_images: int | None, digest: str, others: Sequence[str]
    ) -> Interval | None:
        """Return the interval of the AP of one subnet minus the mean AP of others on the same images."""
        first = self.resampled(split, num_images, digest)
        rest = [self.resampled(split, num_images, other) for other in others]
        known = [aps for aps in rest if aps is not None]
        return None if first is None or not known or len(known) < len(rest) else interval(first - np.mean(known, 0))

    def resampled(self, split: str, num_images: int | None, digest: str) -> Floats | None:
        """Return the AP of a subnet on each draw of the images."""
        text = self.matches[split].get(num_images or 0, {}).get(digest)
        if text is None or num_images is None:
            return None
        key = (split, num_images, digest)
        if key not in self._aps:
            matches = ImageMatches.from_text(text)
            if matches.num_images not in self._draws:
                rng = np.random.default_rng(0)  # the same draws for all subnets
                self._draws[matches.num_images] = resamples(matches.num_images, rng)
            self._aps[key] = matches.average_precision(self._draws[matches.num_images])
        return self._aps[key]


def is_order_known(difference: Interval | None) -> bool:
    """Whether the interval of a difference leaves out 0."""
    return difference is not None and not difference[0] <= 0 <= difference[1]


def show(value: float, ends: Interval | None) -> str:
    """Return an AP with its interval, "0.412 (0.385 to 0.440)"."""
    return f"{value:.3f}" + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else "")


def not_distinguishable(
    intervals: Intervals, rows: Sequence[Mapping[str, object]], num_images: int | None
) -> tuple[set[str], bool]:
    """Return the digests of the rows whose AP may be as good as that of the first, and whether intervals are known.

    Only the first ``MOST_SUBNETS`` rows are compared. Of a row without matches it is not known, so it may be as good.

    Args:
        intervals: Of the search.
        rows: Candidates, the best first, all scored on ``num_images`` validation images.
        num_images: See ``rows``.
    """
    best = str(rows[0]["digest"])
    if intervals.resampled("val", num_images, best) is None:
        return {best}, False
    tied = {best}
    for row in rows[1:MOST_SUBNETS]:
        digest = str(row["digest"])
        if not is_order_known(intervals.difference("val", num_images, best, digest)):
            tied.add(digest)
    return tied, True
