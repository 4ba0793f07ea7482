"""The charts of a report: trade-offs, final check, progress and importance (no torch)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from search import pareto
from search.objectives import COST_LABELS
from search.quantities import readable
from search.report.charts import BLUE, GREEN, GREY, ORANGE, RED, Chart, Mark, Series
from supernet.arch import Arch
from supernet.costs.published import PUBLISHED

Row = Mapping[str, Any]
AP_LABEL = "AP (OKS 0.50 to 0.95), 0 to 1"
PUBLISHED_COSTS = ("macs", "macs_paper", "params")
MOST_POINTS = 200
"""Points of a smooth line."""


def comparable(rows: Sequence[Row]) -> list[Row]:
    """Return the rows on the most frequent number of images, a row for each candidate, by order.

    AP on different numbers of images is not comparable; a candidate may have a row for each number.
    """
    number = Counter(row.get("num_images") for row in rows).most_common(1)[0][0]
    by_digest = {row["digest"]: row for row in rows if row.get("num_images") == number}
    return sorted(by_digest.values(), key=lambda row: row["order"])


def note(row: Row) -> str:
    """Return a line that describes a candidate."""
    return f"{row['digest']}: {Arch.from_dict(row['arch']).describe()}"


def trade_off(
    rows: Sequence[Row], chosen: str, cost: str, bounds: Sequence[tuple[str, float]], published: str | None
) -> Chart:
    """Draw AP over a cost for comparable candidates, with their Pareto front.

    Args:
        rows: Comparable candidates.
        chosen: Digest of the chosen arch.
        cost: Name of the cost.
        bounds: Bounds of the budget on this cost, by name.
        published: Data set whose published AP is comparable and shown, None for none.
    """
    points = [pareto.Point(row["costs"][cost], row["metrics"]["AP"]) for row in rows]
    groups = {"random": GREY, "proposed by the search": BLUE}
    series = []
    for name, color in groups.items():
        members = [i for i, row in enumerate(rows) if (row["origin"] == "random") == (color == GREY)]
        if members:
            series.append(_points(name, color, [points[i] for i in members], [note(rows[i]) for i in members]))
    front = [points[i] for i in pareto.trade_off(points)]
    series.append(Series("best trade-offs", *_values(front), "steps", GREEN))
    stars = [i for i, row in enumerate(rows) if row["digest"] == chosen]
    if stars:
        series.append(_points("chosen", RED, [points[i] for i in stars], [note(rows[i]) for i in stars], star=True))
    if published and cost in PUBLISHED_COSTS:
        networks = PUBLISHED[published]
        published_points = [pareto.Point(getattr(network, cost), network.ap) for network in networks]
        names = [f"{network.name} of the paper" for network in networks]
        series.append(_points("published LitePose XS, S, M, L", "#cc79a7", published_points, names))
    marks, shown = _bounds(bounds), _shown([point.cost for point in points], [value for _, value in bounds])
    title = f"{len(rows)} subnets on {_images(rows)}"
    return Chart(title, _label(cost), AP_LABEL, tuple(series), marks, None if published else shown)


def with_published_costs(chart: Chart, cost: str, keypoints: str | None) -> tuple[Chart, str]:
    """Mark the costs of published networks on a chart whose AP is of other data; also return them as a sentence."""
    networks = PUBLISHED.get(keypoints or "", ())
    if cost not in PUBLISHED_COSTS or not networks or chart.x_range is None:
        return chart, ""
    low, high = chart.x_range
    shown = [network for network in networks if low <= getattr(network, cost) <= high]
    marks = tuple(Mark("x", getattr(network, cost), f"{network.name} (published)", "#cc79a7") for network in shown)
    costs = ", ".join(f"{network.name} {readable(getattr(network, cost))}" for network in networks)
    text = f"{_label(cost).capitalize()} of published networks: {costs}. Their published AP is not shown, because it "
    text += "was measured on other images."
    return replace(chart, marks=chart.marks + marks), text


def final_check(summary: Row, cost: str, bounds: Sequence[tuple[str, float]]) -> Chart | None:
    """Draw the AP on test images of the chosen subnet and of random ones; None if there is none."""
    test = summary["chosen"]["metrics"].get("test")
    if test is None:
        return None
    chosen = pareto.Point(summary["chosen"]["costs"][cost], test["AP"])
    random = [
        pareto.Point(row["costs"][cost], row["metrics"]["AP"]) for row in summary.get("baseline", {}).get("subnets", ())
    ]
    series, marks = [], _bounds(bounds)
    if random:
        series.append(_points("random within the budget", ORANGE, random))
        mean = sum(point.ap for point in random) / len(random)
        marks += (Mark("y", mean, "mean of the random ones", ORANGE),)
    series.append(_points("chosen", RED, [chosen], star=True))
    shown = _shown([chosen.cost, *(point.cost for point in random)], [value for _, value in bounds])
    title = f"final check on {summary['num_test_images']} test images"
    return Chart(title, _label(cost), AP_LABEL, tuple(series), marks, shown)


def progress(rows: Sequence[Row]) -> Chart:
    """Draw the best AP so far over the number of evaluations, with the expected best AP of random search.

    This is estimated from the m random archs that the search started with: the mean best of any n of them, for n up to
    m.
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


def importances(by_choice: Mapping[str, float]) -> Chart:
    """Draw the importance of each choice."""
    places = tuple(float(i) for i in range(len(by_choice)))
    bars = Series("", tuple(by_choice.values()), places, "bars", BLUE)
    return Chart("importance of choices", "mean change of the predicted AP", "", (bars,), rows=tuple(by_choice))


def _points(
    name: str, color: str, points: Sequence[pareto.Point], notes: Sequence[str] = (), star: bool = False
) -> Series:
    return Series(name, *_values(points), "star" if star else "points", color, tuple(notes))


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
