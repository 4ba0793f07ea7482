"""Charts as values, drawn alike as PNG (matplotlib) and as interactive HTML (plotly) (no torch).

Plotly cannot make images without a browser, and matplotlib none to point at, so that each does one half.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from supernet.io import files

GREY, BLUE, RED, ORANGE, GREEN = "#9aa5b1", "#0072b2", "#d55e00", "#e69f00", "#009e73"
"""Told apart with any colour vision (Okabe and Ito)."""

Style = Literal["points", "star", "line", "steps", "bars"]


@dataclass(frozen=True)
class Series:
    """Values drawn in one style and named in the legend.

    Attributes:
        x, y: As many of each, finite; of bars, y are positions from 0.
        notes: A line for each point, shown where one points at it; none of them, or as many as points.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Style
    color: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A line across the chart at ``value`` of an axis."""

    axis: Literal["x", "y"]
    value: float
    name: str
    color: str = "#333333"


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        x_range: What of the x axis is shown; all if None.
        rows: Names of the positions of bars, from the top.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    x_range: tuple[float, float] | None = None
    rows: tuple[str, ...] = ()


def draw_png(path: str | Path, charts: Sequence[Chart]) -> None:
    """Draw charts side by side into a PNG file."""
    height = max(4.5, 0.28 * max(len(chart.rows) for chart in charts) + 1.2)
    figure = Figure(figsize=(7 * len(charts), height), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, chart in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts, strict=True):
        _draw(axes, chart)
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw(axes: Axes, chart: Chart) -> None:
    for one in chart.series:
        if one.style == "bars":
            axes.barh(one.y, one.x, color=one.color, label=one.name)
        elif one.style in ("points", "star"):
            marker, size = ("*", 180) if one.style == "star" else ("o", 18)
            axes.scatter(one.x, one.y, size, one.color, marker=marker, zorder=3, linewidths=0, label=one.name)
        else:
            shape = "steps-post" if one.style == "steps" else "default"
            axes.plot(one.x, one.y, color=one.color, drawstyle=shape, label=one.name)
    for mark in chart.marks:
        line = axes.axvline if mark.axis == "x" else axes.axhline
        line(mark.value, color=mark.color, linestyle="--", linewidth=1, label=mark.name)
    axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.x_range:
        axes.set_xlim(chart.x_range)
    if chart.rows:
        axes.set_yticks(range(len(chart.rows)), chart.rows)
        axes.invert_yaxis()
    elif all(value >= 1000 or value == 0 for one in chart.series for value in one.x):
        axes.xaxis.set_major_formatter(EngFormatter())
    if not chart.rows and (chart.series or chart.marks):
        axes.legend(loc="best", fontsize="small", framealpha=0.8)


def to_html(chart: Chart, name: str) -> str:
    """Return the chart as an HTML element of id ``name``, for a page that holds plotly's script."""
    figure = go.Figure()
    for one in chart.series:
        notes = [html.escape(note) for note in one.notes]
        common: dict[str, Any] = {"x": one.x, "y": one.y, "name": html.escape(one.name), "customdata": notes}
        hover = "%{x:,.4~s}, %{y:.4f}" + ("<br>%{customdata}" if notes else "")
        if one.style == "bars":
            names = [html.escape(row) for row in chart.rows]
            common |= {"y": names, "customdata": None, "orientation": "h", "marker_color": one.color}
            figure.add_bar(**common, hovertemplate="%{y}: %{x:.4f}<extra></extra>")
        elif one.style in ("points", "star"):
            marker = {"color": one.color, "size": 16 if one.style == "star" else 7}
            marker |= {"symbol": "star"} if one.style == "star" else {}
            figure.add_scatter(**common, mode="markers", marker=marker, hovertemplate=hover)
        else:
            line: dict[str, Any] = {"color": one.color, "shape": "hv" if one.style == "steps" else "linear"}
            figure.add_scatter(**common, mode="lines", line=line, hovertemplate=hover)
    # Lines as series, over what is shown, so that the legend names them and can hide them.
    for mark in chart.marks:
        ends = _extent(chart, "y" if mark.axis == "x" else "x")
        x, y = ((mark.value, mark.value), ends) if mark.axis == "x" else (ends, (mark.value, mark.value))
        line = {"color": mark.color, "dash": "dash", "width": 1}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, name=html.escape(mark.name), hoverinfo="name")
    figure.update_layout(
        title=html.escape(chart.title),
        xaxis={"title": html.escape(chart.x_label), "range": chart.x_range},
        yaxis={"title": html.escape(chart.y_label), "autorange": "reversed" if chart.rows else True},
        template="plotly_white",
        showlegend=not chart.rows,
        legend={"orientation": "h", "y": -0.2},
        margin={"l": 60, "r": 20, "t": 50, "b": 40},
        height=max(440, 24 * len(chart.rows) + 120),
    )
    options = {"displayModeBar": False, "responsive": True}  # its buttons would lie over the title
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, config=options, div_id=name)
    return text


def _extent(chart: Chart, axis: Literal["x", "y"]) -> tuple[float, float]:
    """Return the least and the greatest value shown on an axis."""
    if axis == "x" and chart.x_range:
        return chart.x_range
    values = [value for one in chart.series for value in getattr(one, axis)]
    values += [mark.value for mark in chart.marks if mark.axis == axis]
    values = [value for value in values if math.isfinite(value)] or [0.0]
    return min(values), max(values)
