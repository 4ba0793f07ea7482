"""What a search found, as charts: trade-offs, the final check, progress and importance (no torch)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from search import pareto
from search.quantities import readable
from search.report.charts import BLUE, GREEN, GREY, ORANGE, RED, Chart, Mark, Series
from supernet.arch import Arch
from supernet.costs.published import PUBLISHED

Row = Mapping[str, Any]
AP_LABEL = "AP (OKS 0.50 to 0.95), 0 to 1"
PUBLISHED_COSTS = ("macs", "macs_paper", "params")
MOST_POINTS = 200
"""Of a smooth line."""


def comparable(rows: Sequence[Row]) -> list[Row]:
    """Return by order a row of each candidate, those scored on the number of images that most were scored on.

    AP on different numbers of images must not be compared; a candidate may have a row for each of them.
    """
    number = Counter(row.get("num_images") for row in rows).most_common(1)[0][0]
    found = {row["digest"]: row for row in rows if row.get("num_images") == number}
    return sorted(found.values(), key=lambda row: row["order"])


def note(row: Row) -> str:
    """Return one line on a candidate."""
    return f"{row['digest']}: {Arch.from_dict(row['arch']).describe()}"


def trade_off(
    rows: Sequence[Row], chosen: str, cost: str, bounds: Sequence[tuple[str, float]], published: str | None
) -> Chart:
    """Draw AP over a cost for comparable candidates, with the front of those that no other one beats in both.

    Args:
        rows: Comparable candidates.
        chosen: Digest of the chosen one.
        cost: Name of the cost.
        bounds: What the budget allows of it, named.
        published: Data set whose published AP may stand beside these; None: none may.
    """
    points = [pareto.Point(row["costs"][cost], row["metrics"]["AP"]) for row in rows]
    groups = {"drawn at random": GREY, "found by the search": BLUE}
    series = []
    for name, color in groups.items():
        some = [i for i, row in enumerate(rows) if (row["origin"] == "random") == (color == GREY)]
        if some:
            series.append(_points(name, color, [points[i] for i in some], [note(rows[i]) for i in some]))
    front = [points[i] for i in pareto.front(points)]
    series.append(Series("best trade-offs", *_values(front), "steps", GREEN))
    stars = [i for i, row in enumerate(rows) if row["digest"] == chosen]
    if stars:
        series.append(_points("chosen", RED, [points[i] for i in stars], [note(rows[i]) for i in stars], star=True))
    if published and cost in PUBLISHED_COSTS:
        known = [pareto.Point(getattr(one, cost), one.ap) for one in PUBLISHED[published]]
        names = [f"{one.name} of the paper" for one in PUBLISHED[published]]
        series.append(_points("published LitePose XS, S, M, L", "#cc79a7", known, names))
    marks, shown = _bounds(bounds), _shown([point.cost for point in points], [value for _, value in bounds])
    title = f"{len(rows)} subnets on {_images(rows)}"
    return Chart(title, _label(cost), AP_LABEL, tuple(series), marks, None if published else shown)


def with_published_costs(chart: Chart, cost: str, keypoints: str | None) -> tuple[Chart, str]:
    """Mark what published networks cost on a chart whose AP is of other data; also return what there is to say."""
    networks = PUBLISHED.get(keypoints or "", ())
    if cost not in PUBLISHED_COSTS or not networks or chart.x_range is None:
        return chart, ""
    low, high = chart.x_range
    inside = [one for one in networks if low <= getattr(one, cost) <= high]
    marks = tuple(Mark("x", getattr(one, cost), f"{one.name} costs this", "#cc79a7") for one in inside)
    costs = ", ".join(f"{one.name} {readable(getattr(one, cost))}" for one in networks)
    text = f"Published networks, {_label(cost)}: {costs}. Their published AP is of other images, so not shown."
    return replace(chart, marks=chart.marks + marks), text


def final_check(summary: Row, cost: str, bounds: Sequence[tuple[str, float]]) -> Chart | None:
    """Draw the chosen subnet beside random ones within the budget on test images; None if neither was tested."""
    test = summary["chosen"]["metrics"].get("test")
    if test is None:
        return None
    chosen = pareto.Point(summary["chosen"]["costs"][cost], test["AP"])
    random = [
        pareto.Point(one["costs"][cost], one["metrics"]["AP"]) for one in summary.get("baseline", {}).get("subnets", ())
    ]
    series, marks = [], _bounds(bounds)
    if random:
        series.append(_points("random within the budget", ORANGE, random))
        mean = sum(point.ap for point in random) / len(random)
        marks += (Mark("y", mean, "their mean", ORANGE),)
    series.append(_points("chosen", RED, [chosen], star=True))
    shown = _shown([chosen.cost, *(point.cost for point in random)], [value for _, value in bounds])
    title = f"final check on {summary['num_test_images']} test images"
    return Chart(title, _label(cost), AP_LABEL, tuple(series), marks, shown)


def progress(rows: Sequence[Row]) -> Chart:
    """Draw the best AP so far over evaluations, with what random draws alone would have reached.

    The latter is expected from the draws that the search itself began with: of m draws, the mean best of any n of them,
    which exists up to n = m.
    """
    aps = [row["metrics"]["AP"] for row in rows]
    best = np.maximum.accumulate(aps).tolist()
    counts = tuple(float(i + 1) for i in range(len(rows)))
    series = [
        Series("evaluated", counts, tuple(aps), "points", GREY, tuple(map(note, rows))),
        Series("best so far", counts, tuple(best), "steps", BLUE),
    ]
    random = [row["metrics"]["AP"] for row in rows if row["origin"] == "random"]
    if len(random) > 1:
        numbers = np.unique(np.geomspace(1, len(random), MOST_POINTS).round().astype(int)).tolist()
        expected = tuple(expected_best(random, number) for number in numbers)
        name = f"expected of random draws (from {len(random)})"
        series.append(Series(name, tuple(map(float, numbers)), expected, "line", ORANGE))
    return Chart(f"progress on {_images(rows)}", "subnets evaluated", AP_LABEL, tuple(series))


def expected_best(values: Sequence[float], number: int) -> float:
    """Return the mean, over all choices of ``number`` of the values, of the greatest of them."""
    ordered, total = np.sort(values), len(values)
    first = np.arange(number, total + 1)  # so many of the least values hold the choice

    def log_choices(of: NDArray[np.int64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = gammaln(of + 1) - gammaln(of - number + 1) - gammaln(number + 1)
        return found

    within = np.exp(log_choices(first) - log_choices(np.array([total])))
    return float(np.diff(within, prepend=0) @ ordered[number - 1 :])


def importances(found: Mapping[str, float]) -> Chart:
    """Draw how far the predicted AP moves with each choice."""
    places = tuple(float(i) for i in range(len(found)))
    bars = Series("", tuple(found.values()), places, "bars", BLUE)
    return Chart("what matters", "mean change of the predicted AP", "", (bars,), rows=tuple(found))


def _points(
    name: str, color: str, points: Sequence[pareto.Point], notes: Sequence[str] = (), star: bool = False
) -> Series:
    return Series(name, *_values(points), "star" if star else "points", color, tuple(notes))


def _values(points: Sequence[pareto.Point]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(point.cost for point in points), tuple(point.ap for point in points)


def _bounds(bounds: Sequence[tuple[str, float]]) -> tuple[Mark, ...]:
    return tuple(Mark("x", value, name) for name, value in bounds)


def _shown(costs: Sequence[float], bounds: Sequence[float]) -> tuple[float, float]:
    """Return what of the cost axis to show: all candidates, and bounds unless they are far off."""
    low, high = min(costs), max(costs)
    near = [value for value in bounds if low / 2 <= value <= 2 * high]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.06 * (high - low) or 0.1 * high or 1.0
    return low - margin, high + margin


def _label(cost: str) -> str:
    return pareto.COST_LABELS.get(cost, cost)


def _images(rows: Sequence[Row]) -> str:
    number = rows[0].get("num_images")
    return "validation images" if number is None else f"{number} validation images"
