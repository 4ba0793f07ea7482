"""The report of a search: a self-contained HTML page, and its images as PNG files (no torch)."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.budget import Budget
from search.predictor import LEAST_HELD_OUT, Quality, held_out
from search.quantities import readable
from search.report import arch_drawing, charts, figures, subnet_table
from search.report.charts import Chart
from search.report.figures import Row, Scored
from search.report.findings import costs_of_interest, findings
from search.report.image_results import NONE, Matches
from search.report.importance import importance, importance_intervals
from search.report.intervals import PERCENT, Interval, Intervals, show
from search.report.picking import PICKED, SCRIPT
from supernet.arch import Arch
from supernet.io import files
from supernet.io.web_page import embedded, section
from supernet.io.web_page import page as web_page

REPORT_FILE = "report.html"
IMAGE_FILES = ("pareto.png", "progress.png", "importance.png", "arch.png")
"""``importance.png`` is written only if there are enough subnets to fit a predictor."""
MAX_FITTED = 1000
"""Most subnets that the predictor of the importance is fitted to, so that a report takes seconds."""
MAX_RESAMPLED = 200
"""Most subnets for the intervals of the importance, which fit many predictors."""
PUBLISHED = ("coco", "crowdpose")
"""Kinds of data sets with published AP, which is of the same task if the keypoints are those of the same name."""
DRAWINGS = (
    "Drawings: the resolution, then a bar for each block, whose height is its expand ratio and whose colour is its "
    "kernel (light 3, middle 5, dark 7), above the width of each stage."
)
ALWAYS_SHOWN = ("macs", "params", "latency_ms")
"""Costs whose trade-offs are drawn side by side, where the search knows them."""


def write(folder: str | Path, summary: Row, rows: Sequence[Row], budget: Budget, matches: Matches = NONE) -> Path:
    """Write ``report.html`` and ``IMAGE_FILES`` to the folder of a search; return the path of the page.

    Args:
        folder: Folder of the search.
        summary: The value of ``summary.json``. "chosen", a row whose "metrics" are by "val" and "test", is required;
            "finalists", "baseline", "objectives", the supernet and "dataset_kind" are optional. Published AP is shown
            for the kinds "coco" and "crowdpose" only.
        rows: Scored candidates; one scored on several numbers of images may have a row for each.
        budget: Budget of the search, with its costs.
        matches: Of the subnets image by image, for intervals.
    """
    folder, comparable = Path(folder), figures.comparable(rows)
    scored = Scored(comparable, summary["chosen"]["digest"], Intervals(matches))
    space, num_keypoints = budget.model.space, budget.model.num_keypoints
    kind = summary.get("dataset_kind")
    published = kind if kind in PUBLISHED and summary.get("keypoints") == kind else None
    trade_offs, remarks = _trade_offs(summary, scored, budget, published)
    checks = _final_checks(summary, budget, scored.intervals)
    course = [figures.progress(scored)]
    charts.draw_png(folder / IMAGE_FILES[0], [trade_offs[0], *checks])
    charts.draw_png(folder / IMAGE_FILES[1], course)
    importance_chart, quality = _importance(scored, budget)
    if quality is not None:
        charts.draw_png(folder / IMAGE_FILES[2], [importance_chart])
    drawing = arch_drawing.draw(Arch.from_dict(summary["chosen"]["arch"]), space, num_keypoints)
    arch_drawing.save_png(folder / IMAGE_FILES[3], drawing)

    costs = costs_of_interest(summary, budget)
    image = base64.b64encode(arch_drawing.as_svg(drawing).encode()).decode()
    chosen = f'<img class="drawing" alt="the chosen subnet" src="data:image/svg+xml;base64,{image}">'
    sentences = "".join(f"<li>{html.escape(text)}</li>" for text in findings(summary, scored, budget, costs))
    matters = [importance_chart] if quality is not None else []
    importance_notes = [_importance_note(quality, len(comparable)), _about_importance_errors(importance_chart)]
    title = f"Search of {summary.get('space', space.name)}"
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<div class="soft">{html.escape(_origin(summary, budget))}</div>',
        section("", _facts(summary, scored)),
        section("What this search shows", f"<ul>{sentences}</ul>" + _soft([_about_intervals(scored)])),
        section("The chosen subnet", chosen + _buttons(summary)),
        section("AP and costs", drawn("costs", trade_offs) + _soft([*remarks, "Select a point to see its subnet."])),
        section("Final check and resolution", drawn("check", [*checks, figures.by_resolution(scored)])),
        section("Progress", drawn("course", course)),
        section("What matters", drawn("importance", matters) + _soft(importance_notes)),
        section("The best subnets", subnet_table.table(summary, scored, budget, costs) + _soft([DRAWINGS])),
        PICKED,
        embedded("candidates", subnet_table.for_scripts(summary, scored, _costs_shown(summary, budget))),
    ]
    files.write_text(folder / REPORT_FILE, web_page(title, "\n".join(body), SCRIPT))
    return folder / REPORT_FILE


def drawn(name: str, shown: Sequence[Chart]) -> str:
    """Return charts side by side as HTML; ``name`` begins their identities."""
    pieces = (f"<div>{charts.to_html(chart, f'{name}-{i}')}</div>" for i, chart in enumerate(shown))
    return f'<div class="charts">{"".join(pieces)}</div>' if shown else ""


def _costs_shown(summary: Row, budget: Budget) -> list[str]:
    """Return the costs whose trade-offs are drawn: those of interest, and the usual ones."""
    known = [cost for cost in ALWAYS_SHOWN if cost in budget.model.names]
    return list(dict.fromkeys([*costs_of_interest(summary, budget), *known]))


def _bounds(budget: Budget, cost: str) -> list[tuple[str, float]]:
    return [
        (f"budget: at {'least' if bound.is_least else 'most'} {bound.show()}", bound.value)
        for bound in budget.bounds
        if bound.cost == cost
    ]


def _trade_offs(summary: Row, scored: Scored, budget: Budget, published: str | None) -> tuple[list[Chart], list[str]]:
    """Return a chart for each cost that is shown, and remarks on published networks."""
    trade_off_charts, remarks = [], []
    for cost in _costs_shown(summary, budget):
        chart = figures.trade_off(scored, cost, _bounds(budget, cost), published)
        if published:
            images = {"coco": "COCO val2017", "crowdpose": "CrowdPose's test set"}[published]
            remarks.append(
                f"Published AP (select it in the legend, then double-click the chart) was measured on all images of "
                f"{images}, with networks that were trained alone."
            )
        else:
            chart, remark = figures.with_published_costs(chart, cost, summary.get("keypoints"))
            remarks.append(remark)
        trade_off_charts.append(chart)
    return trade_off_charts, remarks


def _final_checks(summary: Row, budget: Budget, intervals: Intervals) -> list[Chart]:
    cost = costs_of_interest(summary, budget)[0]
    chart = figures.final_check(summary, cost, _bounds(budget, cost), intervals)
    return [] if chart is None else [chart]


def _importance(scored: Scored, budget: Budget) -> tuple[Chart, Quality | None]:
    """Return the importance of choices and the quality of its predictor, None for too few subnets or equal AP."""
    rows = scored.rows
    aps = np.array([row["metrics"]["AP"] for row in rows])
    if len(rows) < LEAST_HELD_OUT or not np.ptp(aps):
        return figures.importances({}, {}), None
    space, rng = budget.model.space, np.random.default_rng(0)
    sample = np.sort(rng.permutation(len(rows))[:MAX_FITTED])
    genes, aps = space.encode([Arch.from_dict(rows[i]["arch"]) for i in sample]), aps[sample]
    by_choice, quality = importance(space, genes, aps, rng), held_out(space, genes, aps, rng)
    return figures.importances(by_choice, _importance_intervals(scored, budget, rng)), quality


def _importance_intervals(scored: Scored, budget: Budget, rng: np.random.Generator) -> dict[str, Interval]:
    """Return the intervals of the importance; empty without the matches of enough subnets."""
    space, intervals = budget.model.space, scored.intervals
    sample = [scored.rows[i] for i in np.sort(rng.permutation(len(scored.rows))[:MAX_RESAMPLED])]
    known = [(row, intervals.resampled("val", row.get("num_images"), row["digest"])) for row in sample]
    archs = [Arch.from_dict(row["arch"]) for row, aps in known if aps is not None]
    if len(archs) < LEAST_HELD_OUT:
        return {}
    resampled = np.stack([aps for _, aps in known if aps is not None])
    return importance_intervals(space, space.encode(archs), resampled, rng)


def _importance_note(quality: Quality | None, num: int) -> str:
    """Return what the importance is and how reliable, or why it is missing."""
    if quality is None:
        return (
            f"The importance of choices cannot be estimated from {num} subnet{'s' * (num != 1)}: it needs at least "
            f"{LEAST_HELD_OUT} with different AP."
        )
    advice = "The longest bars are reliable."
    if quality.kendall_tau < 0.6:
        advice = "The bars show a tendency only."
    if quality.kendall_tau < 0.3:
        advice = "This is low: the order of the bars may be chance."
    return (
        "Importance: the mean change of the predicted AP when a subnet takes this choice from another one, over "
        f"{quality.num_held_out} subnets. In cross-validation (trained on {quality.num_train} subnets), the predictor "
        f"has a Kendall tau of {quality.kendall_tau:.2f}, and {quality.top_k_recall:.0%} of the best {quality.k} "
        f"subnets are among its best {quality.k}. {advice}"
    )


def _about_importance_errors(chart: Chart) -> str:
    """Return what the error bars of the importance mean, empty where there are none."""
    if not any(series.errors for series in chart.series):
        return ""
    return (
        f"Error bars are {PERCENT} intervals over draws of images and subnets; the order of choices whose error bars "
        "overlap is not known."
    )


def _origin(summary: Row, budget: Budget) -> str:
    parts = [f"supernet {summary['supernet']}"] if "supernet" in summary else []
    return " · ".join([*parts, f"budget: {budget.describe()}"])


def _about_intervals(scored: Scored) -> str:
    """Return what intervals mean, empty where there are none."""
    if not any(scored.interval(row) for row in scored.rows):
        return ""
    return (
        f"In brackets, and as error bars: {PERCENT} intervals, from drawing the images again with replacement. "
        "Differences are computed on the same draws for both subnets, so they can be sure even where intervals "
        "overlap; no order is claimed where the interval of a difference holds 0."
    )


def _facts(summary: Row, scored: Scored) -> str:
    chosen, digest = summary["chosen"], summary["chosen"]["digest"]
    test, val = chosen["metrics"].get("test"), chosen["metrics"].get("val", chosen["metrics"])
    facts = []
    if test:
        number = summary.get("num_test_images")
        facts.append(("AP on test images", show(test["AP"], scored.intervals.of("test", number, digest))))
    ends = scored.intervals.of("val", chosen.get("num_images"), digest)
    facts.append(("AP on validation images, by which it was chosen", show(val["AP"], ends)))
    baseline = summary.get("baseline", {})
    if baseline.get("ap_mean") is not None:
        random = f"{baseline['num']} random subnet{'s' * (baseline['num'] != 1)}"
        facts.append((f"mean AP on test images of {random}", f"{baseline['ap_mean']:.3f}"))
    facts += [("multiply-adds", readable(chosen["costs"]["macs"])), ("parameters", readable(chosen["costs"]["params"]))]
    facts.append(("subnets evaluated", str(len(scored.rows))))
    if "seconds" in summary:
        facts.append(("minutes", f"{summary['seconds'] / 60:.1f}"))
    cells = (f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for name, value in facts)
    return f'<div class="facts">{"".join(cells)}</div>'


def _buttons(summary: Row) -> str:
    return f'<p><button data-save="{html.escape(summary["chosen"]["digest"])}">download its arch file</button></p>'


def _soft(remarks: Sequence[str]) -> str:
    return "".join(f'<p class="soft">{html.escape(remark)}</p>' for remark in dict.fromkeys(remarks) if remark)
