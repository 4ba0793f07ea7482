"""The report of a search: a self-contained HTML page, and its images as PNG files (no torch)."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from search.budget import Budget, readable
from search.objectives import AP, COST_LABELS
from search.predictor import LEAST_HELD_OUT, Quality, held_out
from search.report import arch_drawing, charts, figures
from search.report.charts import Chart
from search.report.figures import Row
from search.report.importance import importance
from supernet.arch import Arch
from supernet.io import files

REPORT_FILE = "report.html"
IMAGE_FILES = ("pareto.png", "progress.png", "importance.png", "arch.png")
"""``importance.png`` is written only if there are enough subnets to fit a predictor."""
NUM_LISTED = 10
MAX_FITTED = 1000
"""Most subnets that the predictor of the importance is fitted to, so that a report takes seconds."""
PUBLISHED_KEYPOINTS = {"coco": "coco", "crowdpose": "crowdpose"}
"""By kind of data set, the keypoints with which published AP is of the same task."""

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
/* Fixed column widths: a chart is drawn before the other one of its row exists. */
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
    """Write ``report.html`` and ``IMAGE_FILES`` to the folder of a search; return the path of the page.

    Args:
        folder: Folder of the search.
        summary: The value of ``summary.json``. "chosen", a row whose "metrics" are by "val" and "test", is required;
            "finalists", "baseline", "objectives" and the supernet are optional.
        rows: Scored candidates; one scored on several numbers of images may have a row for each.
        budget: Budget of the search, with its costs.
        dataset_kind: Kind of the data set; published AP is shown for "coco" and "crowdpose" only.
    """
    folder, comparable = Path(folder), figures.comparable(rows)
    space, num_keypoints = budget.model.space, budget.model.num_keypoints
    keypoints = PUBLISHED_KEYPOINTS.get(dataset_kind)
    published = keypoints if keypoints == summary.get("keypoints") else None
    trade_offs, remarks = _trade_offs(summary, comparable, budget, published)
    main = [trade_offs[0], *_final_checks(summary, budget)]
    course = [figures.progress(comparable)]
    charts.draw_png(folder / IMAGE_FILES[0], main)
    charts.draw_png(folder / IMAGE_FILES[1], course)
    importance_chart, quality = _importance(comparable, budget)
    if quality is not None:
        charts.draw_png(folder / IMAGE_FILES[2], [importance_chart])
        course.append(importance_chart)
    drawing = arch_drawing.draw(Arch.from_dict(summary["chosen"]["arch"]), space, num_keypoints)
    arch_drawing.save_png(folder / IMAGE_FILES[3], drawing)

    title = f"Search of {summary.get('space', space.name)}"
    image = base64.b64encode(arch_drawing.as_svg(drawing).encode()).decode()
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<div class="soft">{html.escape(_origin(summary, budget))}</div>',
        _section("", _facts(summary, comparable)),
        _section("The chosen subnet", f'<img alt="the chosen subnet" src="data:image/svg+xml;base64,{image}">'),
        _section("AP and costs", _pair("costs", [*main, *trade_offs[1:]]) + _soft(remarks)),
        _section(
            "Progress of the search", _pair("course", course) + _soft([_importance_note(quality, len(comparable))])
        ),
        _section("The best subnets", _table(summary, comparable, budget)),
    ]
    page = _PAGE.format(title=html.escape(title), plotly=get_plotlyjs(), body="\n".join(body))
    files.write_text(folder / REPORT_FILE, page)
    return folder / REPORT_FILE


def costs_of_interest(summary: Row, budget: Budget) -> list[str]:
    """Return the costs that were bounded or minimized, in order; MACs if there are none."""
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
    """Return a chart for each cost of interest, and remarks on published networks."""
    trade_off_charts, remarks = [], []
    for cost in costs_of_interest(summary, budget):
        chart = figures.trade_off(rows, summary["chosen"]["digest"], cost, _bounds(budget, cost), published)
        if published:
            images = {"coco": "COCO val2017", "crowdpose": "CrowdPose's test set"}[published]
            remarks.append(
                f"Published AP was measured on all images of {images}, with networks that were trained alone."
            )
        else:
            chart, remark = figures.with_published_costs(chart, cost, summary.get("keypoints"))
            remarks.append(remark)
        trade_off_charts.append(chart)
    return trade_off_charts, remarks


def _final_checks(summary: Row, budget: Budget) -> list[Chart]:
    cost = costs_of_interest(summary, budget)[0]
    chart = figures.final_check(summary, cost, _bounds(budget, cost))
    return [] if chart is None else [chart]


def _importance(rows: Sequence[Row], budget: Budget) -> tuple[Chart, Quality | None]:
    """Return the importance of choices and the quality of its predictor, None for too few subnets or equal AP."""
    aps = np.array([row["metrics"]["AP"] for row in rows])
    if len(rows) < LEAST_HELD_OUT or not np.ptp(aps):
        return figures.importances({}), None
    space, rng = budget.model.space, np.random.default_rng(0)
    sample = np.sort(rng.permutation(len(rows))[:MAX_FITTED])
    genes, aps = space.encode([Arch.from_dict(rows[i]["arch"]) for i in sample]), aps[sample]
    return figures.importances(importance(space, genes, aps, rng)), held_out(space, genes, aps, rng)


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
        facts.append((f"mean AP on test images of {baseline['num']} random subnets", f"{baseline['ap_mean']:.3f}"))
    facts += [("multiply-adds", readable(chosen["costs"]["macs"])), ("parameters", readable(chosen["costs"]["params"]))]
    facts.append(("subnets evaluated", str(len({row["digest"] for row in rows}))))
    if "seconds" in summary:
        facts.append(("minutes", f"{summary['seconds'] / 60:.1f}"))
    cells = (f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for name, value in facts)
    return f'<div class="facts">{"".join(cells)}</div>'


def _table(summary: Row, rows: Sequence[Row], budget: Budget) -> str:
    """Return the best subnets as a table: finalists scored on more images first, then by AP."""
    number, chosen = rows[0].get("num_images"), summary["chosen"]["digest"]
    rescored = {row["digest"]: row for row in summary.get("finalists", ()) if row.get("num_images") != number}
    by_ap = sorted(rows, key=lambda row: (-row["metrics"]["AP"], row["order"]))
    listed = [*rescored.values(), *(row for row in by_ap if row["digest"] not in rescored)][:NUM_LISTED]
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
    if rescored:
        most = next(iter(rescored.values()))["num_images"]
        columns[f"AP, {most} images"] = [ap(rescored.get(row["digest"])) for row in listed]
    if test:
        name = f"AP, {summary.get('num_test_images', '')} test images"
        columns[name] = [f"{test['AP']:.4f}" if row["digest"] == chosen else "" for row in listed]
    for cost in costs:
        columns[COST_LABELS[cost]] = [_shown(cost, row["costs"][cost]) for row in listed]
    for cost in dict.fromkeys(name for row in listed for name in row["costs"] if name not in budget.model.names):
        values = [row["costs"].get(cost) for row in listed]
        columns[cost.replace("_", " ")] = ["" if value is None else f"{value:.2f}" for value in values]
    columns["origin"] = [row["origin"] for row in listed]
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
