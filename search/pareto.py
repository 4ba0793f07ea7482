"""The best trade-offs between a cost and AP, as a list and as a picture (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from supernet import files

COST_LABELS = {
    "macs": "multiply-adds per square input",
    "macs_paper": "multiply-adds per square input, LitePose's counting",
    "params": "parameters",
    "memory": "peak activation bytes of one square input",
    "weight_bytes": "bytes of float32 weights",
    "latency_ms": "predicted latency, ms",
}
"""Axis titles of every cost a budget can name."""


@dataclass(frozen=True)
class Point:
    """One subnet: a cost (lower is better) and its AP (higher is better)."""

    cost: float
    ap: float


def front(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points that no other point dominates, by rising cost.

    A point dominates another if it is at least as good in both and better in one; equal points do not dominate each
    other, so that all of them are kept.
    """
    found: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i].cost, -points[i].ap)):
        if not found or points[i].ap > points[found[-1]].ap or points[i] == points[found[-1]]:
            found.append(i)
    return found


def draw(
    path: str | Path,
    cost_name: str,
    limit: float | None,
    candidates: Sequence[Point],
    chosen: Point,
    final_chosen: Point,
    baseline: Sequence[Point],
) -> None:
    """Draw the search as a PNG: on the left on validation pictures, on the right the final check on test pictures.

    Args:
        path: PNG file to write.
        cost_name: Key of ``COST_LABELS``.
        limit: The budget in that cost; no line if None.
        candidates: All evaluated candidates, AP on validation pictures.
        chosen: The chosen one among them.
        final_chosen: The same subnet, AP on test pictures.
        baseline: Random subnets within the same budget, AP on test pictures; may be empty.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    best = [candidates[i] for i in front(candidates)]
    _scatter(left, candidates, "evaluated", color="tab:gray", s=16)
    front_style = {"color": "tab:blue", "drawstyle": "steps-post", "label": "Pareto front"}
    left.plot([p.cost for p in best], [p.ap for p in best], ".-", **front_style)
    _scatter(left, [chosen], "chosen", color="tab:red", marker="*", s=160)
    left.set(title="search: validation pictures", ylabel="AP (OKS 0.50 to 0.95), 0 to 1")
    if baseline:
        _scatter(right, baseline, "random within the budget", color="tab:orange", s=24)
        mean = sum(point.ap for point in baseline) / len(baseline)
        right.axhline(mean, color="tab:orange", linewidth=1, label="their mean")
    _scatter(right, [final_chosen], "chosen", color="tab:red", marker="*", s=160)
    right.set(title="final check: test pictures")
    for axes in (left, right):
        axes.set_xlabel(COST_LABELS[cost_name])
        axes.xaxis.set_major_formatter(EngFormatter())
        if limit is not None:
            axes.axvline(limit, color="black", linestyle="--", linewidth=1, label="budget")
        axes.grid(alpha=0.3)
        axes.legend(loc="best", fontsize="small")
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _scatter(axes: Axes, points: Sequence[Point], label: str, **style: Any) -> None:
    axes.scatter([point.cost for point in points], [point.ap for point in points], label=label, zorder=3, **style)
