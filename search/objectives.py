"""Objectives of a search: AP and costs, by name (no torch)."""

from collections.abc import Collection, Sequence

from search.budget import LATENCY
from supernet.errors import UserError

AP = "ap"
COST_LABELS = {
    "macs": "multiply-adds per square input",
    "macs_paper": "multiply-adds per square input, LitePose's counting",
    "params": "parameters",
    "memory": "peak activation bytes of one square input",
    "weight_bytes": "bytes of float32 weights",
    LATENCY: "predicted latency, ms",
}
"""Axis titles of all costs."""


def check_objectives(objectives: Sequence[str]) -> None:
    """Raise UserError unless ``objectives`` are AP and names of costs, each once."""
    if objectives.count(AP) != 1 or len(set(objectives)) < len(objectives):
        raise UserError(f"objectives is {list(objectives)}; give ap and names of costs, each once")


def check_known(objectives: Sequence[str], costs: Collection[str]) -> None:
    """Raise UserError for an objective that is neither AP nor one of the names of ``costs``."""
    for name in objectives:
        if name == LATENCY and name not in costs:
            raise UserError(
                f"the objective {name} needs a latency table; build it with `python -m search.lut build` and give it "
                "as latency_table=FILE"
            )
        if name != AP and name not in costs:
            raise UserError(f"there is no objective {name}; choose among {', '.join((AP, *costs))}")
