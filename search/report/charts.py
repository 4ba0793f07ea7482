"""Charts as plain values, drawn as PNG with matplotlib and as interactive HTML with plotly (no torch).

Plotly needs a browser to make images, and matplotlib cannot make interactive pages, so both are used.
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
"""Colours that people with any colour vision can distinguish (Okabe and Ito)."""

Style = Literal["points", "star", "line", "steps", "bars"]


@dataclass(frozen=True)
class Series:
    """Values that are drawn in one style, with an entry in the legend.

    Attributes:
        x, y: Finite values, equally many. For bars, y are positions from 0.
        notes: A line of text for each point, shown when the mouse is over it; empty for none.
        errors: Lower and upper end of the interval of each point, along y or, for bars, along x; None for no interval.
        keys: What scripts of the page know each point by; empty for none.
        is_hidden: Whether it is shown only after a click on its entry in the legend, and not in images.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Style
    color: str
    notes: tuple[str, ...] = ()
    errors: tuple[tuple[float, float] | None, ...] = ()
    keys: tuple[str, ...] = ()
    is_hidden: bool = False

    def error_lengths(self) -> tuple[list[float], list[float]]:
        """Return the lengths of the error bars below and above each point, 0 for a point without an interval."""
        values = self.x if self.style == "bars" else self.y
        ends = [(value, value) if error is None else error for value, error in zip(values, self.errors, strict=True)]
        below = [max(0.0, value - low) for value, (low, _) in zip(values, ends, strict=True)]
        return below, [max(0.0, high - value) for value, (_, high) in zip(values, ends, strict=True)]


@dataclass(frozen=True)
class Mark:
    """A line across the chart at ``value`` on an axis."""

    axis: Literal["x", "y"]
    value: float
    name: str
    color: str = "#7d8590"


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        x_range: Range of the x axis; None shows all values.
        rows: Labels of the bars, from the top.
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
    for series in (series for series in chart.series if not series.is_hidden):
        x, y, color, name = series.x, series.y, series.color, series.name
        if series.errors:
            lengths, is_bars = series.error_lengths(), series.style == "bars"
            yerr, xerr = (None, lengths) if is_bars else (lengths, None)
            ink = "#57606a" if is_bars else color
            axes.errorbar(x, y, yerr=yerr, xerr=xerr, fmt="none", ecolor=ink, elinewidth=1, capsize=2)
        if series.style == "bars":
            axes.barh(y, x, color=color, label=name)
        elif series.style in ("points", "star"):
            marker, size = ("*", 180) if series.style == "star" else ("o", 18)
            axes.scatter(x, y, size, color, marker=marker, zorder=3, linewidths=0, label=name)
        else:
            drawstyle = "steps-post" if series.style == "steps" else "default"
            axes.plot(x, y, color=color, drawstyle=drawstyle, label=name)
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
    elif all(value >= 1000 or value == 0 for series in chart.series for value in series.x):
        axes.xaxis.set_major_formatter(EngFormatter())
    if not chart.rows and (chart.series or chart.marks):
        axes.legend(loc="best", fontsize="small", framealpha=0.8)


def to_html(chart: Chart, name: str) -> str:
    """Return the chart as an HTML element with id ``name``, for a page that contains the script of plotly."""
    figure = go.Figure()
    for series in chart.series:
        notes = [html.escape(note) for note in series.notes]
        common: dict[str, Any] = {"x": series.x, "y": series.y, "name": html.escape(series.name), "customdata": notes}
        common |= {"ids": series.keys} if series.keys else {}
        common |= {"visible": "legendonly"} if series.is_hidden else {}
        hover = "%{x:,.4~s}, %{y:.4f}" + ("<br>%{customdata}" if notes else "")
        if series.errors:
            along = "error_x" if series.style == "bars" else "error_y"
            below, above = series.error_lengths()
            common[along] = {"array": above, "arrayminus": below, "symmetric": False, "thickness": 1, "width": 3}
            common[along] |= {"color": "#7d8590"} if series.style == "bars" else {}
        if series.style == "bars":
            names = [html.escape(row) for row in chart.rows]
            common |= {"y": names, "customdata": None, "orientation": "h", "marker_color": series.color}
            figure.add_bar(**common, hovertemplate="%{y}: %{x:.4f}<extra></extra>")
        elif series.style in ("points", "star"):
            marker = {"color": series.color, "size": 16 if series.style == "star" else 7}
            marker |= {"symbol": "star"} if series.style == "star" else {}
            figure.add_scatter(**common, mode="markers", marker=marker, hovertemplate=hover)
        else:
            line: dict[str, Any] = {"color": series.color, "shape": "hv" if series.style == "steps" else "linear"}
            figure.add_scatter(**common, mode="lines", line=line, hovertemplate=hover)
    # Marks are series over the visible range, so that they have an entry in the legend.
    for mark in chart.marks:
        ends = _extent(chart, "y" if mark.axis == "x" else "x")
        x, y = ((mark.value, mark.value), ends) if mark.axis == "x" else (ends, (mark.value, mark.value))
        line = {"color": mark.color, "dash": "dash", "width": 1}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, name=html.escape(mark.name), hoverinfo="name")
    figure.update_layout(
        title={"text": html.escape(chart.title), "font": {"size": 15}, "x": 0, "xref": "paper"},
        xaxis={"title": html.escape(chart.x_label), "range": chart.x_range, "automargin": True},
        yaxis={
            "title": html.escape(chart.y_label),
            "autorange": "reversed" if chart.rows else True,
            "rangemode": "normal" if chart.rows else "nonnegative",  # all values 0: not from -1 to 1
            "exponentformat": "power",
            "automargin": True,
        },
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
        showlegend=not chart.rows,
        legend={"orientation": "h", "y": -0.27, "yanchor": "top", "x": 0, "font": {"size": 11}},
        margin={"l": 48, "r": 12, "t": 44, "b": 40},
        height=max(420 + 14 * (len(chart.series) + len(chart.marks)), 24 * len(chart.rows) + 120),
    )
    options = {"displayModeBar": False, "responsive": True}  # the buttons would cover the title
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, config=options, div_id=name)
    return text


def _extent(chart: Chart, axis: Literal["x", "y"]) -> tuple[float, float]:
    """Return the smallest and the largest value shown on an axis."""
    if axis == "x" and chart.x_range:
        return chart.x_range
    values = [value for series in chart.series if not series.is_hidden for value in getattr(series, axis)]
    values += [mark.value for mark in chart.marks if mark.axis == axis]
    values = [value for value in values if math.isfinite(value)] or [0.0]
    return min(values), max(values)
