"""The best trade-offs between a cost and AP (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass

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
