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
_PANELS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mean loss since the previous point", {"type": "log"}),
    ("AP, validation", {"rangemode": "tozero"}),
    ("learning rate", {"rangemode": "tozero"}),
    ("share of a step waiting for images", {"range": [0, 1]}),
)


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
    """Return the curves as a figure of plotly: one panel above the other, with a mark at the start of each phase."""
    from plotly.subplots import make_subplots  # here, because plotly is slow to import

    heights = [0.38, 0.26, 0.18, 0.18]
    titles = [title for title, _ in _PANELS]
    figure = make_subplots(len(_PANELS), 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=heights)
    for panel, (title, axis) in enumerate(_PANELS, start=1):
        figure.update_yaxes(row=panel, col=1, automargin=True, **axis)
        place = {"xref": "paper", "yref": f"y{panel if panel > 1 else ''} domain", "x": 0, "y": 1}
        figure.add_annotation(text=title, showarrow=False, xanchor="left", yanchor="bottom", **place)
    for role, colour in _COLOURS.items():
        _line(figure, 1, rows, f"loss_{role}", f"{role} subnet", colour)
        _line(figure, 2, rows, f"AP_{role}", f"{role} subnet, AP", colour, mode="lines+markers")
    _line(figure, 1, rows, "loss_gap", "gap within a step", _GREY)
    _line(figure, 3, rows, "rate", titles[2], "#d62728")
    _line(figure, 4, rows, "data_share", "waiting for images", "#9467bd")
    _mark_phases(figure, rows)
    for step in rollbacks:
        figure.add_vline(step, line={"dash": "dot", "width": 1, "color": _GREY})
    figure.update_xaxes(title_text="step", row=len(_PANELS), col=1)
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="x unified",
        height=900,
        margin={"l": 48, "r": 12, "t": 76, "b": 40},
        legend={"orientation": "h", "y": -0.08, "yanchor": "top", "x": 0, "font": {"size": 11}},
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
