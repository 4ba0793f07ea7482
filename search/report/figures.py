"""The charts of a report: trade-offs, final check, progress and importance (no torch)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from search import pareto
from search.objectives import COST_LABELS
from search.quantities import readable
from search.report.charts import BLUE, GREEN, GREY, ORANGE, RED, Chart, Mark, Series
from search.report.intervals import Interval, Intervals
from supernet.arch import Arch
from supernet.costs.published import PUBLISHED

Row = Mapping[str, Any]
AP_LABEL = "AP, 0 to 1"
PUBLISHED_COSTS = ("macs", "macs_paper", "params")
MOST_POINTS = 200
"""Points of a smooth line."""


def comparable(rows: Sequence[Row]) -> list[Row]:
    """Return the rows on the most frequent number of images, a row for each candidate, by order.

    AP on different numbers of images is not comparable; a candidate may have a row for each number. Of equally frequent
    numbers, the largest counts.
    """
    counts = Counter(row.get("num_images") for row in rows)
    number = max(counts, key=lambda number: (counts[number], number or 0))
    by_digest = {row["digest"]: row for row in rows if row.get("num_images") == number}
    return sorted(by_digest.values(), key=lambda row: row["order"])


def note(row: Row) -> str:
    """Return a line that describes a candidate."""
    return f"{row['digest']}: {Arch.from_dict(row['arch']).describe()}"


@dataclass(frozen=True)
class Scored:
    """The comparable candidates of a search, by order, with the intervals of their AP.

    Attributes:
        rows: Candidates on equally many images (:func:`comparable`).
        chosen: Digest of the chosen arch.
        intervals: Of the search.
    """

    rows: Sequence[Row]
    chosen: str
    intervals: Intervals

    def interval(self, row: Row) -> Interval | None:
        """Return the interval of a candidate's AP."""
        return self.intervals.of("val", row.get("num_images"), row["digest"])

    def points(
        self, name: str, color: str, rows: Sequence[Row], cost: str, errors: bool = False, star: bool = False
    ) -> Series:
        """Return candidates as points over a cost, with ``errors`` with their intervals."""
        points = [pareto.Point(row["costs"][cost], row["metrics"]["AP"]) for row in rows]
        intervals = tuple(self.interval(row) for row in rows) if errors else ()
        return Series(
            name,
            *_values(points),
            "star" if star else "points",
            color,
            tuple(note(row) for row in rows),
            intervals if any(intervals) else (),
            _digests(rows),
        )


def trade_off(scored: Scored, cost: str, bounds: Sequence[tuple[str, float]], published: str | None) -> Chart:
    """Draw AP over a cost for comparable candidates, with their Pareto front and the intervals of its AP.

    Args:
        scored: The candidates.
        cost: Name of the cost.
        bounds: Bounds of the budget on this cost, by name.
        published: Data set whose published AP is comparable and shown, None for none.
    """
    rows, chosen = scored.rows, scored.chosen
    points = [pareto.Point(row["costs"][cost], row["metrics"]["AP"]) for row in rows]
    groups = {"random": GREY, "proposed by the search": BLUE}
    series = []
    for name, color in groups.items():
        members = [row for row in rows if (row["origin"] == "random") == (color == GREY)]
        if members:
            series.append(scored.points(name, color, members, cost))
    front = pareto.trade_off(points)
    series.append(Series("best measured trade-offs", *_values([points[i] for i in front]), "steps", GREEN))
    series.append(scored.points("their AP, with intervals", GREEN, [rows[i] for i in front], cost, errors=True))
    stars = [row for row in rows if row["digest"] == chosen]
    if stars:
        series.append(scored.points("chosen", RED, stars, cost, errors=True, star=True))
    if published and cost in PUBLISHED_COSTS:
        networks = PUBLISHED[published]
        published_points = [pareto.Point(getattr(network, cost), network.ap) for network in networks]
        names = [f"{network.name} of the paper" for network in networks]
        points_of_paper = _points("published LitePose XS, S, M, L", "#cc79a7", published_points, names)
        series.append(replace(points_of_paper, is_hidden=True))  # far off, they would press all others together
    marks, shown = _bounds(bounds), _shown([point.cost for point in points], [value for _, value in bounds])
    title = f"{len(rows)} subnets on {_images(rows)}"
    return Chart(title, _label(cost), AP_LABEL, tuple(series), marks, shown)


def with_published_costs(chart: Chart, cost: str, keypoints: str | None) -> tuple[Chart, str]:
    """Mark the costs of published networks on a chart whose AP is of other data; also return them as a sentence."""
    networks = PUBLISHED.get(keypoints or "", ())
    if cost not in PUBLISHED_COSTS or not networks or chart.x_range is None:
        return chart, ""
    low, high = chart.x_range
    shown = [network for network in networks if low <= getattr(network, cost) <= high]
    marks = tuple(Mark("x", getattr(network, cost), f"{network.name} (published)", "#cc79a7") for network in shown)
    costs = ", ".join(f"{network.name} {readable(getattr(network, cost))}" for network in networks)
    label = _label(cost)
    text = f"{label[0].upper()}{label[1:]} of published networks: {costs}. Their published AP is not shown, because it "
    text += "was measured on other images."
    return replace(chart, marks=chart.marks + marks), text


def by_resolution(scored: Scored) -> Chart:
    """Draw AP over the input resolution, with the interval of the best of each."""
    rows = scored.rows
    placed = [{**row, "costs": {"resolution": row["arch"]["img_size"]}} for row in rows]
    sizes = sorted({row["costs"]["resolution"] for row in placed})
    best = [
        max((row for row in placed if row["costs"]["resolution"] == size), key=lambda row: row["metrics"]["AP"])
        for size in sizes
    ]
    series = (
        scored.points("all", GREY, placed, "resolution"),
        scored.points("best of each resolution", GREEN, best, "resolution", errors=True),
    )
    margin = max(16.0, 0.1 * (sizes[-1] - sizes[0]))
    shown = (sizes[0] - margin, sizes[-1] + margin)
    return Chart("effect of the input resolution", "input resolution, px", AP_LABEL, series, x_range=shown)


def final_check(summary: Row, cost: str, bounds: Sequence[tuple[str, float]], intervals: Intervals) -> Chart | None:
    """Draw the AP on test images of the chosen subnet and of random ones, with intervals; None if there is none."""
    test = summary["chosen"]["metrics"].get("test")
    if test is None:
        return None
    number = summary.get("num_test_images")
    chosen = pareto.Point(summary["chosen"]["costs"][cost], test["AP"])
    subnets = summary.get("baseline", {}).get("subnets", ())
    random = [pareto.Point(row["costs"][cost], row["metrics"]["AP"]) for row in subnets]
    digests = [Arch.from_dict(row["arch"]).digest() if "arch" in row else "" for row in subnets]
    series, marks = [], _bounds(bounds)
    if random:
        ends = tuple(intervals.of("test", number, digest) for digest in digests)
        points = _points("random within the budget", ORANGE, random)
        series.append(replace(points, errors=ends if any(ends) else ()))
        mean = sum(point.ap for point in random) / len(random)
        marks += (Mark("y", mean, "mean of the random ones", ORANGE),)
    own = intervals.of("test", number, summary["chosen"]["digest"])
    star = _points("chosen", RED, [chosen], star=True)
    series.append(replace(star, errors=(own,) if own else (), keys=(summary["chosen"]["digest"],)))
    shown = _shown([chosen.cost, *(point.cost for point in random)], [value for _, value in bounds])
    title = f"final check on {summary['num_test_images']} test images"
    return Chart(title, _label(cost), AP_LABEL, tuple(series), marks, shown)


def progress(scored: Scored) -> Chart:
    """Draw the best AP so far over the number of evaluations, with the expected best AP of random search.

    This is estimated from the m random archs among the candidates: the mean best of any n of them, for n up to m.
    """
    rows = scored.rows
    aps = [row["metrics"]["AP"] for row in rows]
    best = np.maximum.accumulate(aps).tolist()
    counts = tuple(float(i + 1) for i in range(len(rows)))
    series = [
        Series(
            "evaluated",
            counts,
            tuple(aps),
            "points",
            GREY,
            tuple(map(note, rows)),
            keys=_digests(rows),
        ),
        Series("best so far", counts, tuple(best), "steps", BLUE),
    ]
    random = [row["metrics"]["AP"] for row in rows if row["origin"] == "random"]
    if len(random) > 1:
        numbers = np.unique(np.geomspace(1, len(random), MOST_POINTS).round().astype(int)).tolist()
        expected = tuple(expected_best(random, number) for number in numbers)
        name = f"expected for random search (from {len(random)} subnets)"
        series.append(Series(name, tuple(map(float, numbers)), expected, "line", ORANGE))
    return Chart(f"progress on {_images(rows)}", "subnets evaluated", AP_LABEL, tuple(series))


def expected_best(values: Sequence[float], number: int) -> float:
    """Return the mean maximum of ``number`` of the values, over all ways to choose them."""
    ordered, total = np.sort(values), len(values)
    counts = np.arange(number, total + 1)  # the choice is within so many of the smallest values

    def log_choices(n: NDArray[np.int64]) -> NDArray[np.float64]:
        log: NDArray[np.float64] = gammaln(n + 1) - gammaln(n - number + 1) - gammaln(number + 1)
        return log

    within = np.exp(log_choices(counts) - log_choices(np.array([total])))
    return float(np.diff(within, prepend=0) @ ordered[number - 1 :])


def importances(by_choice: Mapping[str, float], intervals: Mapping[str, Interval]) -> Chart:
    """Draw the importance of each choice, with its interval where there is one."""
    places = tuple(float(i) for i in range(len(by_choice)))
    errors = tuple(intervals.get(name) for name in by_choice)
    bars = Series("", tuple(by_choice.values()), places, "bars", BLUE, errors=errors if any(errors) else ())
    return Chart("importance of choices", "change of the predicted AP", "", (bars,), rows=tuple(by_choice))


def _points(
    name: str, color: str, points: Sequence[pareto.Point], notes: Sequence[str] = (), star: bool = False
) -> Series:
    return Series(name, *_values(points), "star" if star else "points", color, tuple(notes))


def _digests(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(row["digest"] for row in rows)


def _values(points: Sequence[pareto.Point]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(point.cost for point in points), tuple(point.ap for point in points)


def _bounds(bounds: Sequence[tuple[str, float]]) -> tuple[Mark, ...]:
    return tuple(Mark("x", value, name) for name, value in bounds)


def _shown(costs: Sequence[float], bounds: Sequence[float]) -> tuple[float, float]:
    """Return the range of the cost axis: all candidates, and bounds unless these are far away."""
    low, high = min(costs), max(costs)
    near = [value for value in bounds if low / 2 <= value <= 2 * high]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.06 * (high - low) or 0.1 * high or 1.0
    return low - margin, high + margin


def _label(cost: str) -> str:
    return COST_LABELS.get(cost, cost)


def _images(rows: Sequence[Row]) -> str:
    number = rows[0].get("num_images")
    return "validation images" if number is None else f"{number} validation images"
