"""What a study of weight sharing reports: figures as plain values, tables in Markdown, and an image (no torch)."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.studies.sharing_archs import RankAgreement, agreement
from supernet.io import files

AIM_GAP, AIM_TAU = 0.02, 0.7
"""What sharing should reach: at most this median gap in AP, and at least this rank correlation."""

MARKERS = "osD^v"
"""Of the strategies in the image."""

Scores = Sequence[Sequence[float | None]]
"""AP by seed and arch; None where it is not measured yet."""


@dataclass(frozen=True)
class Compared:
    """An arch of the study.

    Attributes:
        description: One line for people.
        macs: Multiply-adds of one square input.
    """

    description: str
    macs: int


def means(scores: Scores) -> list[float | None]:
    """Return the mean over the seeds by arch; None unless every seed has a score."""
    found = []
    for one in zip(*scores, strict=True):
        known = [ap for ap in one if ap is not None]
        found.append(statistics.mean(known) if len(known) == len(one) else None)
    return found


def compared(alone: Sequence[float | None], shared: Sequence[float | None]) -> RankAgreement | None:
    """Return how the scores agree over the archs that have both; None if no arch has."""
    pairs = [(a, s) for a, s in zip(alone, shared, strict=True) if a is not None and s is not None]
    return agreement([a for a, _ in pairs], [s for _, s in pairs]) if pairs else None


def agreements(alone: Scores, shared: Mapping[str, Scores]) -> dict[str, Any]:
    """Return by strategy how shared and stand-alone AP agree, of the means over the seeds and by seed.

    Two stand-alone trainings that differ in their seed do not agree fully either: "between seeds" compares each pair
    of seeds, and no supernet can be expected to be closer.
    """
    found: dict[str, Any] = {}
    for strategy, scores in shared.items():
        mean = compared(means(alone), means(scores))
        by_seed = [compared(*pair) for pair in zip(alone, scores, strict=True)]
        found[strategy] = {"mean": _plain(mean), "by_seed": [_plain(each) for each in by_seed]}
    found["alone, between seeds"] = {"mean": None, "by_seed": [_plain(each) for each in _between_seeds(alone)]}
    return found


def _between_seeds(alone: Scores) -> list[RankAgreement | None]:
    return [compared(alone[i], alone[j]) for i in range(len(alone)) for j in range(i)]


def _plain(found: RankAgreement | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def markdown(
    archs: Sequence[Compared], alone: Scores, shared: Mapping[str, Scores], heading: Sequence[str], below: str
) -> str:
    """Return the tables: AP and gaps of each arch, and how well each strategy agrees.

    Args:
        archs: Those compared.
        alone: AP trained alone.
        shared: AP by strategy.
        heading: Paragraphs above the tables.
        below: What stands below them.
    """
    columns = ["arch", "MACs", "alone", *shared, *(f"gap, {strategy}" for strategy in shared)]
    own, cut = means(alone), {strategy: means(scores) for strategy, scores in shared.items()}
    rows = []
    for i, arch in enumerate(archs):
        gaps = [_difference(own[i], aps[i]) for aps in cut.values()]
        aps = [own[i], *(aps[i] for aps in cut.values())]
        rows.append([f"{i}: {arch.description}", f"{arch.macs / 1e6:.1f} M", *map(_ap, aps), *map(_gap, gaps)])
    told = []
    for strategy, aps in cut.items():
        found = compared(own, aps)
        if found is not None:
            reached = found.median_gap <= AIM_GAP and found.kendall_tau is not None and found.kendall_tau >= AIM_TAU
            told.append([strategy, *_told(found, len(archs)), "yes" if reached else "no"])
    for found in _between_seeds(alone):
        if found is not None:
            told.append(["alone, another seed", *_told(found, len(archs)), ""])
    names = ["strategy", "archs", "Kendall tau", "median gap", "largest gap", f"gap <= {AIM_GAP} and tau >= {AIM_TAU}"]
    parts = ["# Subnets of a supernet and the same archs trained alone", *heading, table(columns, rows)]
    if told:
        parts.append(table(names, told))
    return "\n\n".join(part for part in (*parts, below) if part) + "\n"


def draw(path: Path, alone: Scores, shared: Mapping[str, Scores]) -> bool:
    """Draw shared over stand-alone AP, means over the seeds; whether there was anything to draw."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    own, seen = means(alone), []
    for number, (strategy, scores) in enumerate(shared.items()):
        aps = means(scores)
        found = compared(own, aps)
        if found is None:
            continue
        points = [(a, s, i) for i, (a, s) in enumerate(zip(own, aps, strict=True)) if a is not None and s is not None]
        marker = MARKERS[number % len(MARKERS)]
        label = f"{strategy}: Kendall tau {_tau(found)}, median gap {found.median_gap:+.3f}"
        drawn = axes.scatter([a for a, _, _ in points], [s for _, s, _ in points], marker=marker, label=label)
        for a, s, i in points:
            colour = drawn.get_facecolor()[0]
            axes.annotate(str(i), (a, s), xytext=(5, 3), textcoords="offset points", fontsize=8, color=colour)
        seen += [value for a, s, _ in points for value in (a, s)]
    if not seen:
        return False
    margin = 0.05 * (max(seen) - min(seen)) + 0.005
    ends = (min(seen) - margin, max(seen) + margin)
    axes.plot(ends, ends, color="grey", linewidth=1, label="as good as alone")
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set_xlabel("AP of the arch trained alone")
    axes.set_ylabel("AP of the arch cut from a supernet and calibrated")
    axes.legend(loc="upper left", fontsize=9)
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return True


def _difference(alone: float | None, shared: float | None) -> float | None:
    return None if alone is None or shared is None else alone - shared


def _told(found: RankAgreement, num_archs: int) -> list[str]:
    return [f"{found.num} of {num_archs}", _tau(found), f"{found.median_gap:+.3f}", f"{found.largest_gap:+.3f}"]


def _tau(found: RankAgreement) -> str:
    return "undefined" if found.kendall_tau is None else f"{found.kendall_tau:.2f}"


def _ap(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _gap(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
