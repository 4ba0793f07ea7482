"""Metrics as commands show them."""

from collections.abc import Iterable, Mapping

from rich import box
from rich.table import Table


def format_metric(value: float, digits: int = 3) -> str:
    """Return a metric as text, "n/a" where there were no people to measure it on (-1)."""
    return "n/a" if value < 0 else f"{value:.{digits}f}"


def metrics_table(title: str, metrics: Mapping[str, float]) -> Table:
    """Return the metrics of one network as a table of one row."""
    table = Table(*metrics, title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_row(*map(format_metric, metrics.values()))
    return table


def subnets_table(title: str, rows: Iterable[tuple[str, Mapping[str, float], str]]) -> Table:
    """Return a table with a row per subnet: (name, metrics, description of its arch)."""
    columns = ("AP", "AP50", "AP75", "AR")
    table = Table("subnet", *columns, "arch", title=title)
    for name, metrics, arch in rows:
        table.add_row(name, *(format_metric(metrics[column]) for column in columns), arch)
    return table
