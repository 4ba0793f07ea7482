"""A page that compares several searches: their fronts, their chosen subnets, and what is known of their order."""

import html
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from search import pareto
from search.budget import shown_bound
from search.objectives import COST_LABELS
from search.report import figures, subnet_table
from search.report.charts import Chart, Series
from search.report.figures import AP_LABEL
from search.report.findings import difference_in_words
from search.report.finished_search import FinishedSearch
from search.report.intervals import PERCENT, Interval, is_order_known, show
from search.report.page import ALWAYS_SHOWN, drawn
from search.report.picking import PICKED, SCRIPT
from search.report.sparkline import sparkline
from supernet.arch import Arch
from supernet.io.web_page import embedded, page, section
from supernet.pose.metrics.image_matches import ImageMatches, interval, resamples

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of the searches, in order, again from the start (Okabe and Ito)."""


def comparison(searches: Sequence[FinishedSearch]) -> str:
    """Return the page as HTML."""
    sentences = "".join(f"<li>{html.escape(text)}</li>" for text in order_of_choices(searches))
    costs = [cost for cost in ALWAYS_SHOWN if all(cost in row["costs"] for s in searches for row in s.scored.rows)]
    about = (
        f"Error bars and brackets are {PERCENT} intervals from drawing the images again with replacement. Select a "
        "point to see its subnet."
    )
    fronts = [front_chart(searches, cost) for cost in costs]
    candidates = {
        f"{search.name} {digest}": value
        for search in searches
        for digest, value in subnet_table.for_scripts(search.summary, search.scored, costs).items()
    }
    title = f"Comparison of {len(searches)} searches" if len(searches) > 1 else f"Search {searches[0].name}"
    body = [
        f"<h1>{html.escape(title)}</h1>",
        section("The searches", _table(searches)),
        section("What is known of their order", f"<ul>{sentences}</ul>"),
        section("Best measured trade-offs", drawn("fronts", fronts) + _soft(about)),
        section("Chosen subnets and progress", drawn("chosen", [*_test_charts(searches), _progress(searches)])),
        PICKED,
        embedded("candidates", candidates),
    ]
    return page(title, "\n".join(body), SCRIPT)


def front_chart(searches: Sequence[FinishedSearch], cost: str) -> Chart:
    """Draw the front of each search over one cost, with intervals, and its chosen subnet."""
    series: list[Series] = []
    for i, search in enumerate(searches):
        rows, color = search.scored.rows, COLORS[i % len(COLORS)]
        points = [pareto.Point(row["costs"][cost], row["metrics"]["AP"]) for row in rows]
        front = [rows[j] for j in pareto.trade_off(points)]
        members = search.scored.points(search.name, color, front, cost, errors=True)
        series.append(replace(members, name=f"{search.name}, front", style="steps", notes=(), errors=(), keys=()))
        series.append(_named(members, search.name))
        chosen = [row for row in rows if row["digest"] == search.scored.chosen]
        if chosen:
            star = search.scored.points(f"{search.name}, chosen", color, chosen, cost, star=True)
            series.append(_named(star, search.name))
    numbers = sorted({str(search.scored.rows[0].get("num_images")) for search in searches})
    title = f"fronts on {' and '.join(numbers)} validation images"
    return Chart(title, COST_LABELS[cost], AP_LABEL, tuple(series))


def order_of_choices(searches: Sequence[FinishedSearch]) -> list[str]:
    """Say for each pair of searches which chosen subnet has the higher AP on test images, if that is known."""
    tested = [search for search in searches if search.summary["chosen"]["metrics"].get("test")]
    missing = [search.name for search in searches if search not in tested]
    sentences = [f"{name} has no AP on test images." for name in missing]
    for first, second in combinations(tested, 2):
        names = f"{first.name} and {second.name}"
        if not first.same_images(second, "test"):
            sentences.append(f"{names} were tested on other images or settings, so their AP is not comparable.")
            continue
        aps = [search.summary["chosen"]["metrics"]["test"]["AP"] for search in (first, second)]
        ends = _difference(first, second)
        if ends is None:
            sentences.append(
                f"{names}: AP {aps[0]:.3f} and {aps[1]:.3f}; the searches kept no matches of single images, so it is "
                "not known whether the difference is chance."
            )
            continue
        difference = difference_in_words(aps[0] - aps[1], ends)
        if is_order_known(ends):
            order = "above" if ends[0] > 0 else "below"
            sentences.append(f"The choice of {first.name} has an AP {order} that of {second.name}: {difference}.")
        else:
            sentences.append(f"The order of the choices of {names} cannot be decided on these images: {difference}.")
    return sentences or ["There is one search, so there is nothing to compare."]


def _difference(first: FinishedSearch, second: FinishedSearch) -> Interval | None:
    """Return the interval of the difference of the chosen subnets' AP on the same draws of the test images."""
    texts = []
    for search in (first, second):
        number = search.summary.get("num_test_images", 0)
        texts.append(search.scored.intervals.matches["test"].get(number, {}).get(search.scored.chosen))
    if None in texts:
        return None
    one, other = (ImageMatches.from_text(text) for text in texts if text is not None)
    if one.num_images != other.num_images:
        return None
    draws = resamples(one.num_images, np.random.default_rng(0))
    return interval(one.average_precision(draws) - other.average_precision(draws))


def _named(series: Series, name: str) -> Series:
    """Return points with keys that are unique among all searches."""
    return replace(series, keys=tuple(f"{name} {key}" for key in series.keys))


def _test_charts(searches: Sequence[FinishedSearch]) -> list[Chart]:
    """Draw the test AP of the chosen subnets over their multiply-adds, with intervals, and of the random ones."""
    series = []
    for i, search in enumerate(searches):
        chosen, color = search.summary["chosen"], COLORS[i % len(COLORS)]
        if test := chosen["metrics"].get("test"):
            number = search.summary.get("num_test_images")
            ends = search.scored.intervals.of("test", number, chosen["digest"])
            point = (chosen["costs"]["macs"],), (test["AP"],)
            key = (f"{search.name} {chosen['digest']}",)
            series.append(Series(search.name, *point, "star", color, errors=(ends,) if ends else (), keys=key))
        subnets = search.summary.get("baseline", {}).get("subnets", ())
        if subnets:
            x, y = tuple(row["costs"]["macs"] for row in subnets), tuple(row["metrics"]["AP"] for row in subnets)
            series.append(Series(f"{search.name}, random", x, y, "points", color))
    return [Chart("AP on test images", COST_LABELS["macs"], AP_LABEL, tuple(series))] if series else []


def _progress(searches: Sequence[FinishedSearch]) -> Chart:
    series = []
    for i, search in enumerate(searches):
        best = figures.progress(search.scored).series[1]
        series.append(replace(best, name=search.name, color=COLORS[i % len(COLORS)]))
    return Chart("best AP so far on validation images", "subnets evaluated", AP_LABEL, tuple(series))


def _table(searches: Sequence[FinishedSearch]) -> str:
    columns: dict[str, list[str]] = {"search": [search.name for search in searches]}
    summaries = [search.summary for search in searches]
    chosen = [summary["chosen"] for summary in summaries]
    columns["drawing"] = [sparkline(Arch.from_dict(row["arch"])) for row in chosen]
    columns["budget"] = [_budget(summary.get("constraint")) for summary in summaries]
    columns["objectives"] = [", ".join(map(str, summary.get("objectives", ()))) for summary in summaries]
    columns["subnets evaluated"] = [str(len(search.scored.rows)) for search in searches]
    columns["minutes"] = [f"{summary['seconds'] / 60:.1f}" if "seconds" in summary else "" for summary in summaries]
    columns["AP, test images"] = [_test_ap(search) for search in searches]
    for cost in ("macs", "params"):
        columns[COST_LABELS[cost]] = [subnet_table.shown_cost(cost, row["costs"][cost]) for row in chosen]
    columns["supernet"] = [str(summary.get("supernet", "")) for summary in summaries]
    columns["arch"] = [Arch.from_dict(row["arch"]).describe() for row in chosen]
    columns["file"] = [
        f'<button data-save="{html.escape(f"{search.name} {search.scored.chosen}")}">download</button>'
        for search in searches
    ]
    return subnet_table.as_html(columns, [False] * len(searches))


def _test_ap(search: FinishedSearch) -> str:
    test, number = search.summary["chosen"]["metrics"].get("test"), search.summary.get("num_test_images")
    if test is None:
        return ""
    return f"{show(test['AP'], search.scored.intervals.of('test', number, search.scored.chosen))}, {number} images"


def _budget(constraint: Any) -> str:
    limits = [(name, limit) for name, limit in (constraint or {}).items() if limit is not None]
    return ", ".join(f"{name}={shown_bound(name, limit)}" for name, limit in limits) or "none"


def _soft(text: str) -> str:
    return f'<p class="soft">{html.escape(text)}</p>'
