"""The curves of a training run as a page: the same as ``curves.png``, with figures under the mouse and zoom."""

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supernet.io import files
from supernet.io.web_page import page, section
from supernet.training.monitoring.curves import MIN_LABEL_SHARE, phases_of

CURVES_PAGE = "curves.html"
_COLOURS = {"largest": "#1f77b4", "random": "#2ca02c", "smallest": "#ff7f0e"}
_GREY = "#7d8590"
_LOSS, _AP, _RATE, _WAITING = (
    "mean loss since the previous point",
    "AP, validation",
    "learning rate",
    "share of a step waiting for images",
)
_PANELS: dict[str, tuple[float, dict[str, Any]]] = {
    _LOSS: (0.38, {"type": "log", "exponentformat": "power"}),
    _AP: (0.26, {"rangemode": "tozero"}),
    _RATE: (0.18, {"rangemode": "tozero"}),
    _WAITING: (0.18, {"range": [0, 1]}),
}
"""Relative height and axis of each panel, by its title."""


def write_curves_page(path: Path, rows: Sequence[Mapping[str, Any]], rollbacks: Sequence[int] = ()) -> None:
    """Write the page; the arguments are those of :func:`supernet.training.monitoring.curves.draw_curves`."""
    figure = curves_figure(rows, rollbacks)
    chart = figure.to_html(
        full_html=False, include_plotlyjs=False, div_id="curves", config={"displayModeBar": False, "responsive": True}
    )
    title = f"Curves of {path.absolute().parent.name}"
    shown = ", ".join(f"{name} (steps {start:g} to {stop:g})" for name, start, stop in phases_of(rows)) or "none yet"
    text = f"Phases: {shown}. Dotted lines: rollbacks. Drag to zoom, double-click for all."
    note = f'<p class="soft">{html.escape(text)}</p>'
    files.write_text(path, page(title, f"<h1>{html.escape(title)}</h1>" + section("", chart + note)))


def curves_figure(rows: Sequence[Mapping[str, Any]], rollbacks: Sequence[int]) -> Any:
    """Return the curves as a figure of plotly: one panel above the other, with a mark at the start of each phase.

    There is no panel of AP if none was measured (option ``evaluate_every``).
    """
    from plotly.subplots import make_subplots  # here, because plotly is slow to import

    has_ap = any(f"AP_{role}" in row for row in rows for role in _COLOURS)
    panels = {title: number for number, title in enumerate((t for t in _PANELS if has_ap or t != _AP), start=1)}
    heights = [_PANELS[title][0] for title in panels]
    figure = make_subplots(len(panels), 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=heights)
    for title, panel in panels.items():
        figure.update_yaxes(row=panel, col=1, automargin=True, **_PANELS[title][1])
        place = {"xref": "paper", "yref": f"y{panel if panel > 1 else ''} domain", "x": 0, "y": 1}
        figure.add_annotation(text=title, showarrow=False, xanchor="left", yanchor="bottom", **place)
    for role, colour in _COLOURS.items():
        _line(figure, panels[_LOSS], rows, f"loss_{role}", f"{role} subnet", colour)
        if has_ap:
            _line(figure, panels[_AP], rows, f"AP_{role}", f"{role} subnet, AP", colour, mode="lines+markers")
    _line(figure, panels[_LOSS], rows, "loss_gap", "gap within a step", _GREY)
    _line(figure, panels[_RATE], rows, "rate", _RATE, "#d62728")
    _line(figure, panels[_WAITING], rows, "data_share", "waiting for images", "#9467bd")
    _mark_phases(figure, rows)
    for step in rollbacks:
        figure.add_vline(step, line={"dash": "dot", "width": 1, "color": _GREY})
    figure.update_xaxes(title_text="step", row=len(panels), col=1)
    height = 900 if has_ap else 700
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="x unified",
        height=height,
        margin={"l": 48, "r": 12, "t": 76, "b": 40},
        legend={"orientation": "h", "y": -72 / height, "yanchor": "top", "x": 0, "font": {"size": 11}},
    )
    return figure


def _mark_phases(figure: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw a line at the start of each phase, shade every second one, and name those that are long enough."""
    for i, (name, start, stop) in enumerate(phases_of(rows)):
        figure.add_vline(start, line={"width": 1, "color": _GREY})
        if i % 2:
            figure.add_vrect(start, stop, fillcolor=_GREY, opacity=0.12, line_width=0)
        if stop - start >= MIN_LABEL_SHARE * rows[-1]["step"]:
            place = {"xref": "x", "yref": "paper", "x": start, "y": 1}
            text = html.escape(name)
            figure.add_annotation(
                text=text, showarrow=False, xanchor="left", yanchor="bottom", yshift=22, textangle=-20, **place
            )


def _line(
    figure: Any, panel: int, rows: Sequence[Mapping[str, Any]], key: str, name: str, colour: str, mode: str = "lines"
) -> None:
    """Draw the values of ``key`` over the steps, with a gap over phases without any."""
    steps: list[float] = []
    values: list[float | None] = []
    for phase, start, stop in phases_of(rows):
        within = [row for row in rows if row["phase"] == phase and start <= row["step"] <= stop and key in row]
        steps += [row["step"] for row in within] or [start]
        values += [row[key] if math.isfinite(row[key]) else None for row in within] or [None]
    if any(value is not None for value in values):
        figure.add_scatter(
            x=steps, y=values, name=html.escape(name), mode=mode, line={"color": colour, "width": 1.5}, row=panel, col=1
        )
