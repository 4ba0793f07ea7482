"""The curves of a training run, drawn into one image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from supernet.io import files

CURVES_FILE = "curves.png"
_COLOURS = {"largest": "tab:blue", "random": "tab:green", "smallest": "tab:orange"}
MIN_LABEL_SHARE = 0.05
"""Share of all steps from which a phase is labelled; labels of shorter phases would overlap."""


def draw_curves(path: str | Path, rows: Sequence[Mapping[str, Any]], rollbacks: Sequence[int] = ()) -> None:
    """Draw the log of a run as a PNG: losses and AP by role, learning rate, and the share of time spent on images.

    Args:
        path: PNG file to write.
        rows: Lines of ``train.jsonl``, in order of steps.
        rollbacks: Steps of the checkpoints that the run rolled back to.
    """
    figure = Figure(figsize=(12, 10), layout="constrained")
    FigureCanvasAgg(figure)
    panels: list[Axes] = list(figure.subplots(4, 1, sharex=True, height_ratios=(3, 2, 1, 1)))
    losses, aps, rates, shares = panels
    for role, colour in _COLOURS.items():
        _line(losses, rows, f"loss_{role}", f"{role} subnet", color=colour)
        _line(
            aps, [row for row in rows if f"AP_{role}" in row], f"AP_{role}", f"{role} subnet", color=colour, marker="."
        )
    _line(losses, rows, "loss_gap", "gap within a step", color="tab:gray", linewidth=0.8)
    losses.set(ylabel="mean loss since the previous point", yscale="log")
    aps.set(ylabel="AP, validation", ylim=(0, None))
    if not aps.lines:
        aps.text(0.5, 0.5, "not measured, see evaluate_every", transform=aps.transAxes, ha="center", va="center")
    _line(rates, rows, "rate", "learning rate", color="tab:red")
    rates.set(ylabel="learning rate", ylim=(0, None))
    _line(shares, rows, "data_share", "waiting for images", color="tab:purple", linewidth=0.8)
    shares.set(ylabel="share of a step\nwaiting for images", ylim=(0, 1), xlabel="step")
    for panel in panels:
        panel.grid(alpha=0.3)
        for step in rollbacks:
            panel.axvline(step, color="black", linestyle=":", linewidth=1)
        for i, (_, start, stop) in enumerate(phases_of(rows)):
            panel.axvline(start, color="black", linewidth=0.6, alpha=0.4)
            if i % 2:
                panel.axvspan(start, stop, color="black", alpha=0.05, linewidth=0)
    for panel in (losses, aps):
        if panel.get_legend_handles_labels()[0]:
            panel.legend(loc="best", fontsize="small")
    for name, start, stop in phases_of(rows):
        if stop - start < MIN_LABEL_SHARE * rows[-1]["step"]:
            continue
        place = ((start + stop) / 2, 1.01)
        losses.text(*place, name, transform=losses.get_xaxis_transform(), ha="center", va="bottom", fontsize="small")
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)


def phases_of(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, float]]:
    """Return the name, first and last step of each phase in ``rows``; a phase ends where the next begins."""
    phases: list[tuple[str, float, float]] = []
    for row in rows:
        if phases:
            phases[-1] = (*phases[-1][:2], row["step"])
        if not phases or phases[-1][0] != row["phase"]:
            phases.append((row["phase"], row["step"], row["step"]))
    return phases


def _line(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, label: str, **style: Any) -> None:
    """Draw the values of ``key`` over the steps; the line is interrupted over phases without any."""
    points: list[tuple[float, float]] = []
    for name, start, stop in phases_of(rows):
        within = [row for row in rows if row["phase"] == name and start <= row["step"] <= stop]
        if any(key in row for row in within):
            points += [(row["step"], row[key]) for row in within if key in row]
        elif points:
            points.append((start, float("nan")))
    if points:
        axes.plot([step for step, _ in points], [value for _, value in points], label=label, **style)
