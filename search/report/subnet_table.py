"""The best subnets as a table, and all candidates as values for the scripts of a page (no torch)."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from search.budget import Budget
from search.objectives import COST_LABELS
from search.quantities import readable
from search.report.figures import Scored
from search.report.intervals import MOST_SUBNETS, not_distinguishable, show
from search.report.sparkline import in_words, sparkline
from supernet.arch import Arch

Row = Mapping[str, Any]
NUM_LISTED = 10
_NAMELESS = ("subnet", "search", "drawing", "file")
_TEXT = (*_NAMELESS, "budget", "objectives", "supernet", "order", "origin", "kernels and expand ratios", "arch")
"""Columns of text; the others hold numbers."""
_CHOSEN = ' class="chosen"'
_WIDE = ("supernet", "kernels and expand ratios", "arch")


def table(summary: Row, scored: Scored, budget: Budget, costs: Sequence[str]) -> str:
    """Return the best subnets as HTML: finalists scored on more images first, then by AP."""
    rows, chosen = scored.rows, summary["chosen"]["digest"]
    number = rows[0].get("num_images")
    rescored = {row["digest"]: row for row in summary.get("finalists", ()) if row.get("num_images") != number}
    by_ap = sorted(rows, key=lambda row: (-row["metrics"]["AP"], row["order"]))
    tied, is_known = not_distinguishable(scored.intervals, by_ap, number)
    listed = [*rescored.values(), *(row for row in by_ap if row["digest"] not in rescored)][:NUM_LISTED]
    first = {row["digest"]: row for row in rows}
    test = summary["chosen"]["metrics"].get("test")
    archs = [Arch.from_dict(row["arch"]) for row in listed]

    def ap(row: Row | None) -> str:
        if row is None:
            return ""
        return show(row["metrics"]["AP"], scored.intervals.of("val", row.get("num_images"), row["digest"]))

    columns: dict[str, list[str]] = {"subnet": [row["digest"] for row in listed]}
    columns["drawing"] = [sparkline(arch) for arch in archs]
    if is_known:
        below = {row["digest"] for row in by_ap[:MOST_SUBNETS]} - tied
        orders = {**dict.fromkeys(below, "below the best"), **dict.fromkeys(tied, "may be the best")}
        columns["order"] = [orders.get(row["digest"], "") for row in listed]
    predicted = [first.get(row["digest"], row).get("predicted") for row in listed]
    if any(value is not None for value in predicted):
        columns["predicted AP"] = ["" if value is None else f"{value:.3f}" for value in predicted]
    columns[f"AP, {number or 'validation'} images"] = [ap(first.get(row["digest"])) for row in listed]
    if rescored:
        most = next(iter(rescored.values()))["num_images"]
        columns[f"AP, {most} images"] = [ap(rescored.get(row["digest"])) for row in listed]
    if test:
        own = show(test["AP"], scored.intervals.of("test", summary.get("num_test_images"), chosen))
        name = f"AP, {summary.get('num_test_images', '')} test images"
        columns[name] = [own if row["digest"] == chosen else "" for row in listed]
    for cost in dict.fromkeys(["macs", "params", *costs]):
        columns[COST_LABELS[cost]] = [shown_cost(cost, row["costs"][cost]) for row in listed]
    for cost in dict.fromkeys(name for row in listed for name in row["costs"] if name not in budget.model.names):
        values = [row["costs"].get(cost) for row in listed]
        columns[cost.replace("_", " ")] = ["" if value is None else f"{value:.2f}" for value in values]
    columns["origin"] = [row["origin"] for row in listed]
    columns["kernels and expand ratios"] = [in_words(arch) for arch in archs]
    columns["arch"] = [arch.describe() for arch in archs]
    columns["file"] = [f'<button data-save="{html.escape(row["digest"])}">download</button>' for row in listed]
    return as_html(columns, [row["digest"] == chosen for row in listed])


def as_html(columns: Mapping[str, Sequence[str]], is_chosen: Sequence[bool]) -> str:
    """Return columns of text as a table; "drawing" and "file" hold HTML of ours."""

    def cell(tag: str, name: str, content: str) -> str:
        kinds = [kind for kind, names in (("text", _TEXT), ("wide", _WIDE)) if name in names]
        label = f' data-name="{html.escape(name)}"' if tag == "td" and name not in _NAMELESS else ""
        return f'<{tag} class="{" ".join(kinds)}"{label}>{content}</{tag}>'

    head = "".join(cell("th", name, html.escape(name)) for name in columns)
    lines = []
    for i, chosen in enumerate(is_chosen):
        cells = (
            cell("td", name, values[i] if name in ("drawing", "file") else html.escape(str(values[i])))
            for name, values in columns.items()
        )
        lines.append(f"<tr{_CHOSEN * chosen}>{''.join(cells)}</tr>")
    return f'<table class="cards"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def for_scripts(summary: Row, scored: Scored, costs: Sequence[str]) -> dict[str, Any]:
    """Return what scripts show of each candidate, by digest: texts, a drawing, and the arch file to download."""
    finalists = {row["digest"]: row for row in summary.get("finalists", ())}
    best = sorted(scored.rows, key=lambda row: -row["metrics"]["AP"])[:MOST_SUBNETS]
    with_interval = {row["digest"] for row in best}
    values: dict[str, Any] = {}
    for row in [*scored.rows, *(row for row in finalists.values())]:
        arch = Arch.from_dict(row["arch"])
        ends = scored.interval(row) if row["digest"] in with_interval else None
        facts = [f"AP {show(row['metrics']['AP'], ends)} on {row.get('num_images') or 'validation'} images"]
        facts += [f"{COST_LABELS[cost]}: {shown_cost(cost, row['costs'][cost])}" for cost in costs]
        facts += [in_words(arch), f"{row['origin']}, candidate {row['order']}"]
        values.setdefault(
            row["digest"], {"title": arch.describe(), "facts": facts, "drawing": sparkline(arch), "arch": row["arch"]}
        )
    return values


def shown_cost(cost: str, value: float) -> str:
    """Return a cost as text."""
    return f"{value:.2f}" if cost == "latency_ms" else readable(value)
