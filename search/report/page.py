"""The report of a search: one self-contained page, and its images as PNG beside it (no torch)."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from search.budget import Budget, readable
from search.pareto import AP, COST_LABELS
from search.predictor import LEAST_HELD_OUT, Quality, held_out
from search.report import arch_drawing, charts, figures
from search.report.charts import Chart
from search.report.figures import Row
from search.report.importance import importance
from supernet.arch import Arch
from supernet.io import files

REPORT_FILE = "report.html"
IMAGE_FILES = ("pareto.png", "progress.png", "importance.png", "arch.png")
"""The third only where there are enough subnets to learn from."""
NUM_LISTED = 10
MOST_LEARNT = 1000
"""Subnets that what matters is learnt from, so that the report of a long search takes seconds, too."""
OWN_KEYPOINTS = {"coco": "coco", "crowdpose": "crowdpose"}
"""By kind of data set, the keypoints it must have for published AP to be of the same task."""

_CHOSEN = ' class="chosen"'
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #24292f; background: #f6f8fa; margin: 0 auto; padding: 24px;
  max-width: 1500px; }}
h1 {{ font-size: 24px; margin: 0 0 4px; }} h2 {{ font-size: 17px; margin: 0 0 8px; }}
section {{ background: #fff; border: 1px solid #d0d7de; border-radius: 10px; padding: 16px 20px; margin: 16px 0;
  overflow-x: auto; }}
.pair {{ display: grid; grid-template-columns: minmax(0, 1fr); gap: 0 16px; }}
/* Columns that do not depend on what is in them: a chart is drawn before the one beside it is there. */
@media (min-width: 1000px) {{ .pair {{ grid-template-columns: repeat(2, minmax(0, 1fr)); }} }}
.facts {{ display: flex; flex-wrap: wrap; gap: 8px 28px; }} .facts b {{ display: block; font-size: 20px; }}
.soft, .facts span {{ color: #57606a; font-size: 13px; }}
img {{ max-width: 100%; }}
table {{ border-collapse: collapse; font-size: 13px; width: 100%; }}
th, td {{ text-align: right; padding: 5px 10px; border-bottom: 1px solid #eaeef2; white-space: nowrap; }}
th {{ white-space: normal; vertical-align: bottom; }}
th:first-child, td:first-child, th:last-child, td:last-child {{ text-align: left; }}
td:last-child {{ white-space: normal; min-width: 260px; }}
.chosen {{ background: #fff4ec; font-weight: 600; }}
</style>
<script>{plotly}</script>
</head>
<body>
{body}
</body>
</html>
"""


def write(folder: str | Path, summary: Row, rows: Sequence[Row], budget: Budget, dataset_kind: str) -> Path:
    """Write ``report.html`` and ``IMAGE_FILES`` into the folder of a search and return the page's path.

    Args:
        folder: Where to.
        summary: What the search writes as ``summary.json``: "chosen", a row whose "metrics" are by "val" and "test",
            and as far as there are any "finalists", "baseline", "objectives" and what was searched.
        rows: Scored candidates; one scored on several numbers of images may have a row for each.
        budget: What the search allowed, with its costs.
        dataset_kind: Kind of data set; published AP is shown for their own ("coco", "crowdpose") only.
    """
    folder, found = Path(folder), figures.comparable(rows)
    space, num_keypoints = budget.model.space, budget.model.num_keypoints
    own = OWN_KEYPOINTS.get(dataset_kind)
    published = own if own == summary.get("keypoints") else None
    trade_offs, remarks = _trade_offs(summary, found, budget, published)
    main = [trade_offs[0], *_final_checks(summary, budget)]
    course = [figures.progress(found)]
    charts.draw_png(folder / IMAGE_FILES[0], main)
    charts.draw_png(folder / IMAGE_FILES[1], course)
    matters, quality = _importance(found, budget)
    if quality is not None:
        charts.draw_png(folder / IMAGE_FILES[2], [matters])
        course.append(matters)
    drawing = arch_drawing.draw(Arch.from_dict(summary["chosen"]["arch"]), space, num_keypoints)
    arch_drawing.save_png(folder / IMAGE_FILES[3], drawing)

    title = f"Search of {summary.get('space', space.name)}"
    image = base64.b64encode(arch_drawing.as_svg(drawing).encode()).decode()
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<div class="soft">{html.escape(_origin(summary, budget))}</div>',
        _section("", _facts(summary, found)),
        _section("The chosen subnet", f'<img alt="the chosen subnet" src="data:image/svg+xml;base64,{image}">'),
        _section("AP and costs", _pair("costs", [*main, *trade_offs[1:]]) + _soft(remarks)),
        _section("Course of the search", _pair("course", course) + _soft([_trust(quality, len(found))])),
        _section("The best subnets", _table(summary, found, budget)),
    ]
    page = _PAGE.format(title=html.escape(title), plotly=get_plotlyjs(), body="\n".join(body))
    files.write_text(folder / REPORT_FILE, page)
    return folder / REPORT_FILE


def costs_of_interest(summary: Row, budget: Budget) -> list[str]:
    """Return the costs that were bounded or minimised, in order; MACs if none was."""
    names = [bound.cost for bound in budget.bounds] + [name for name in summary.get("objectives", ()) if name != AP]
    return list(dict.fromkeys(names)) or ["macs"]


def _bounds(budget: Budget, cost: str) -> list[tuple[str, float]]:
    return [
        (f"budget: at {'least' if bound.is_least else 'most'} {bound.show()}", bound.value)
        for bound in budget.bounds
        if bound.cost == cost
    ]


def _trade_offs(
    summary: Row, rows: Sequence[Row], budget: Budget, published: str | None
) -> tuple[list[Chart], list[str]]:
    """Return a chart for each cost of interest, and what there is to say of published networks."""
    found, remarks = [], []
    for cost in costs_of_interest(summary, budget):
        chart = figures.trade_off(rows, summary["chosen"]["digest"], cost, _bounds(budget, cost), published)
        if published:
            images = {"coco": "COCO val2017", "crowdpose": "CrowdPose's test set"}[published]
            remarks.append(f"Published AP is that of all images of {images}, by networks trained on their own.")
        else:
            chart, remark = figures.with_published_costs(chart, cost, summary.get("keypoints"))
            remarks.append(remark)
        found.append(chart)
    return found, remarks


def _final_checks(summary: Row, budget: Budget) -> list[Chart]:
    cost = costs_of_interest(summary, budget)[0]
    chart = figures.final_check(summary, cost, _bounds(budget, cost))
    return [] if chart is None else [chart]


def _importance(rows: Sequence[Row], budget: Budget) -> tuple[Chart, Quality | None]:
    """Return the importance of choices and how far to trust it; no quality for too few subnets or without an order."""
    aps = np.array([row["metrics"]["AP"] for row in rows])
    if len(rows) < LEAST_HELD_OUT or not np.ptp(aps):
        return figures.importances({}), None
    space, rng = budget.model.space, np.random.default_rng(0)
    some = np.sort(rng.permutation(len(rows))[:MOST_LEARNT])
    genes, aps = space.encode([Arch.from_dict(rows[i]["arch"]) for i in some]), aps[some]
    return figures.importances(importance(space, genes, aps, rng)), held_out(space, genes, aps, rng)


def _trust(quality: Quality | None, num: int) -> str:
    if quality is None:
        return (
            f"What matters cannot be told from {num} subnet{'s' * (num != 1)}; it takes at least {LEAST_HELD_OUT} "
            "whose AP differs."
        )
    advice = "the order of the bars is trustworthy at the top"
    if quality.kendall_tau < 0.6:
        advice = "read the bars as a tendency"
    if quality.kendall_tau < 0.3:
        advice = "that is little, and the order of the bars may be chance"
    return (
        "What matters: how far the predicted AP moves when a subnet takes this choice from another of the "
        f"{quality.num_held_out} learnt from. Tested on each of them by learning from {quality.num_train} others, the "
        f"predictor's Kendall tau is {quality.kendall_tau:.2f}, and {quality.top_k_recall:.0%} of the best "
        f"{quality.k} are among its best {quality.k}: {advice}."
    )


def _origin(summary: Row, budget: Budget) -> str:
    parts = [f"supernet {summary['supernet']}"] if "supernet" in summary else []
    return " · ".join([*parts, f"budget: {budget.describe()}"])


def _facts(summary: Row, rows: Sequence[Row]) -> str:
    chosen = summary["chosen"]
    test, val = chosen["metrics"].get("test"), chosen["metrics"].get("val", chosen["metrics"])
    facts = [("AP on test images", f"{test['AP']:.3f}")] if test else []
    facts += [("AP on validation images", f"{val['AP']:.3f}")]
    baseline = summary.get("baseline", {})
    if baseline.get("ap_mean") is not None:
        facts.append((f"mean AP of {baseline['num']} random ones in the test", f"{baseline['ap_mean']:.3f}"))
    facts += [("multiply-adds", readable(chosen["costs"]["macs"])), ("parameters", readable(chosen["costs"]["params"]))]
    facts.append(("subnets evaluated", str(len({row["digest"] for row in rows}))))
    if "seconds" in summary:
        facts.append(("minutes", f"{summary['seconds'] / 60:.1f}"))
    cells = (f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for name, value in facts)
    return f'<div class="facts">{"".join(cells)}</div>'


def _table(summary: Row, rows: Sequence[Row], budget: Budget) -> str:
    """Return the best subnets: those measured again first, then by AP."""
    number, chosen = rows[0].get("num_images"), summary["chosen"]["digest"]
    again = {row["digest"]: row for row in summary.get("finalists", ()) if row.get("num_images") != number}
    by_ap = sorted(rows, key=lambda row: (-row["metrics"]["AP"], row["order"]))
    listed = [*again.values(), *(row for row in by_ap if row["digest"] not in again)][:NUM_LISTED]
    first = {row["digest"]: row for row in rows}
    test = summary["chosen"]["metrics"].get("test")
    costs = list(dict.fromkeys(["macs", "params", *costs_of_interest(summary, budget)]))

    def ap(row: Mapping[str, Any] | None) -> str:
        return "" if row is None else f"{row['metrics']['AP']:.4f}"

    columns: dict[str, list[str]] = {"subnet": [row["digest"] for row in listed]}
    predicted = [first.get(row["digest"], row).get("predicted") for row in listed]
    if any(value is not None for value in predicted):
        columns["predicted AP"] = ["" if value is None else f"{value:.4f}" for value in predicted]
    columns[f"AP, {number or 'validation'} images"] = [ap(first.get(row["digest"])) for row in listed]
    if again:
        most = next(iter(again.values()))["num_images"]
        columns[f"AP, {most} images"] = [ap(again.get(row["digest"])) for row in listed]
    if test:
        name = f"AP, {summary.get('num_test_images', '')} test images"
        columns[name] = [f"{test['AP']:.4f}" if row["digest"] == chosen else "" for row in listed]
    for cost in costs:
        columns[COST_LABELS[cost]] = [_shown(cost, row["costs"][cost]) for row in listed]
    for cost in dict.fromkeys(name for row in listed for name in row["costs"] if name not in budget.model.names):
        values = [row["costs"].get(cost) for row in listed]
        columns[cost.replace("_", " ")] = ["" if value is None else f"{value:.2f}" for value in values]
    columns["came by"] = [row["origin"] for row in listed]
    columns["arch"] = [Arch.from_dict(row["arch"]).describe() for row in listed]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    lines = []
    for i, row in enumerate(listed):
        cells = "".join(f"<td>{html.escape(str(values[i]))}</td>" for values in columns.values())
        lines.append(f"<tr{_CHOSEN * (row['digest'] == chosen)}>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _shown(cost: str, value: float) -> str:
    return f"{value:.2f}" if cost == "latency_ms" else readable(value)


def _section(title: str, content: str) -> str:
    return f"<section>{f'<h2>{html.escape(title)}</h2>' * bool(title)}{content}</section>"


def _pair(name: str, drawn: Sequence[Chart]) -> str:
    pieces = (f"<div>{charts.to_html(chart, f'{name}-{i}')}</div>" for i, chart in enumerate(drawn))
    return f'<div class="pair">{"".join(pieces)}</div>'


def _soft(remarks: Sequence[str]) -> str:
    return "".join(f'<p class="soft">{html.escape(remark)}</p>' for remark in dict.fromkeys(remarks) if remark)
