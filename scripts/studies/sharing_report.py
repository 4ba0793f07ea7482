"""The report of the study ``python -m scripts.studies.weight_sharing``: figures, tables and an image (no torch)."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.studies.sharing_archs import RankAgreement, agreement
from supernet.io import files

AIM_GAP, AIM_LARGEST_GAP, AIM_TAU = 0.0, 0.02, 0.8
"""Aim of weight sharing: at most this median and this largest gap in AP, and at least this rank correlation."""

MARKERS = "osD^v<>pP*"
"""Markers of the strategies in the image."""

Scores = Sequence[Sequence[float | None]]
"""AP by seed and arch, None if not measured yet."""


@dataclass(frozen=True)
class ComparedArch:
    """An arch of the study.

    Attributes:
        description: A line that describes it.
        macs: Multiply-adds of a square input.
    """

    description: str
    macs: int


def means(scores: Scores) -> list[float | None]:
    """Return the mean over the seeds for each arch, None if a seed has no score."""
    mean_aps = []
    for aps in zip(*scores, strict=True):
        measured = [ap for ap in aps if ap is not None]
        mean_aps.append(statistics.mean(measured) if len(measured) == len(aps) else None)
    return mean_aps


def compared(alone: Sequence[float | None], shared: Sequence[float | None]) -> RankAgreement | None:
    """Return the agreement over the archs that have both scores, None if there are none."""
    pairs = [(a, s) for a, s in zip(alone, shared, strict=True) if a is not None and s is not None]
    return agreement([a for a, _ in pairs], [s for _, s in pairs]) if pairs else None


def agreements(alone: Scores, shared: Mapping[str, Scores]) -> dict[str, Any]:
    """Return the agreement of shared and stand-alone AP by strategy, for the means over the seeds and for each seed.

    Two stand-alone trainings with different seeds do not agree fully either. "alone, between seeds" compares each pair
    of seeds; no supernet can be expected to agree better.
    """
    by_strategy: dict[str, Any] = {}
    for strategy, scores in shared.items():
        mean = compared(means(alone), means(scores))
        by_seed = [compared(*pair) for pair in zip(alone, scores, strict=True)]
        by_strategy[strategy] = {"mean": _plain(mean), "by_seed": [_plain(result) for result in by_seed]}
    between_seeds = [_plain(result) for result in _between_seeds(alone)]
    return by_strategy | {"alone, between seeds": {"mean": None, "by_seed": between_seeds}}


def _between_seeds(alone: Scores) -> list[RankAgreement | None]:
    return [compared(alone[i], alone[j]) for i in range(len(alone)) for j in range(i)]


def _plain(result: RankAgreement | None) -> dict[str, Any] | None:
    return None if result is None else asdict(result)


def markdown(
    archs: Sequence[ComparedArch], alone: Scores, shared: Mapping[str, Scores], heading: Sequence[str], below: str
) -> str:
    """Return the report in Markdown, with two tables: AP and gaps of each arch, and the agreement of each strategy.

    Args:
        archs: The archs of the study.
        alone: AP trained alone.
        shared: AP by strategy.
        heading: Paragraphs above the tables.
        below: Paragraph below the tables.
    """
    columns = ["arch", "MACs", "alone", *shared, *(f"gap, {strategy}" for strategy in shared)]
    alone_aps, shared_aps = means(alone), {strategy: means(scores) for strategy, scores in shared.items()}
    rows = []
    for i, arch in enumerate(archs):
        gaps = [_difference(alone_aps[i], aps[i]) for aps in shared_aps.values()]
        aps = [alone_aps[i], *(aps[i] for aps in shared_aps.values())]
        rows.append([f"{i}: {arch.description}", f"{arch.macs / 1e6:.1f} M", *map(_ap, aps), *map(_gap, gaps)])
    agreement_rows = []
    for strategy, aps in shared_aps.items():
        result = compared(alone_aps, aps)
        if result is not None:
            agreement_rows.append([strategy, *_cells(result, len(archs)), "yes" if reaches_aim(result) else "no"])
    for result in _between_seeds(alone):
        if result is not None:
            agreement_rows.append(["alone, another seed", *_cells(result, len(archs)), ""])
    names = [
        "strategy",
        "archs",
        "Kendall tau",
        "median gap",
        "largest gap",
        f"gaps <= {AIM_GAP} and {AIM_LARGEST_GAP}, tau >= {AIM_TAU}",
    ]
    parts = ["# Subnets of a supernet and the same archs trained alone", *heading, table(columns, rows)]
    if agreement_rows:
        parts.append(table(names, agreement_rows))
    return "\n\n".join(part for part in (*parts, below) if part) + "\n"


def reaches_aim(result: RankAgreement) -> bool:
    """Whether subnets of the supernet are as good as archs trained alone, and in the same order."""
    is_ordered = result.kendall_tau is not None and result.kendall_tau >= AIM_TAU
    return is_ordered and result.median_gap <= AIM_GAP and result.largest_gap <= AIM_LARGEST_GAP


def draw(path: Path, alone: Scores, shared: Mapping[str, Scores]) -> bool:
    """Draw shared over stand-alone AP, means over the seeds; return False, without a file, if there are no scores."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    alone_aps, drawn_aps = means(alone), []
    for number, (strategy, scores) in enumerate(shared.items()):
        aps = means(scores)
        result = compared(alone_aps, aps)
        if result is None:
            continue
        points = [
            (a, s, i) for i, (a, s) in enumerate(zip(alone_aps, aps, strict=True)) if a is not None and s is not None
        ]
        marker = MARKERS[number % len(MARKERS)]
        label = f"{strategy}: Kendall tau {_tau(result)}, median gap {result.median_gap:+.3f}"
        scatter = axes.scatter([a for a, _, _ in points], [s for _, s, _ in points], marker=marker, label=label)
        for a, s, i in points:
            colour = scatter.get_facecolor()[0]
            axes.annotate(str(i), (a, s), xytext=(5, 3), textcoords="offset points", fontsize=8, color=colour)
        drawn_aps += [value for a, s, _ in points for value in (a, s)]
    if not drawn_aps:
        return False
    margin = 0.05 * (max(drawn_aps) - min(drawn_aps)) + 0.005
    ends = (min(drawn_aps) - margin, max(drawn_aps) + margin)
    axes.plot(ends, ends, color="grey", linewidth=1, label="equal AP")
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set_xlabel("AP trained alone")
    axes.set_ylabel("AP as a calibrated subnet of a supernet")
    axes.legend(loc="upper left", fontsize=9)
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return True


def _difference(alone: float | None, shared: float | None) -> float | None:
    return None if alone is None or shared is None else alone - shared


def _cells(result: RankAgreement, num_archs: int) -> list[str]:
    return [f"{result.num} of {num_archs}", _tau(result), f"{result.median_gap:+.3f}", f"{result.largest_gap:+.3f}"]


def _tau(result: RankAgreement) -> str:
    return "undefined" if result.kendall_tau is None else f"{result.kendall_tau:.2f}"


def _ap(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _gap(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
