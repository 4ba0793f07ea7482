"""Reads what a finished search left in its folder, for a report of several searches (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.report import figures
from search.report.figures import Scored
from search.report.image_results import load
from search.report.intervals import Intervals
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.io import files

COMMANDS = ("evolve", "optuna_search")
"""Commands whose runs can be compared, by the name of their folder."""


@dataclass(frozen=True)
class FinishedSearch:
    """A finished search.

    Attributes:
        name: What the report calls it.
        summary: Content of ``summary.json``.
        scored: Its comparable candidates.
    """

    name: str
    summary: dict[str, Any]
    scored: Scored

    def same_images(self, other: "FinishedSearch", split: str) -> bool:
        """Whether both searches were scored on the same images of a split, with the same settings."""
        mine, others = (search.summary.get("images", {}).get(split) for search in (self, other))
        return mine is not None and mine == others


def read_searches(places: Sequence[str], runs: str | Path) -> list[FinishedSearch]:
    """Read searches by the paths of their folders, or their names in ``runs``.

    Raises:
        UserError: One is no finished search, or is damaged or named twice.
    """
    folders = [_folder(place, Path(runs)) for place in places]
    resolved = [folder.resolve() for folder in folders]
    for i, folder in enumerate(resolved):
        if folder in resolved[:i]:
            raise UserError(f"{places[i]} is named twice; name each search once")
    names = [folder.name for folder in resolved]
    full = [f"{folder.parent.name}/{folder.name}" for folder in resolved]
    choices = (names, full, list(map(str, resolved)))
    unique = next(choice for choice in choices if len(set(choice)) == len(resolved))
    return [_read(folder, name) for folder, name in zip(resolved, unique, strict=True)]


def _folder(place: str, runs: Path) -> Path:
    """Return the folder of a search: a path, or a name (such as "latest") in the folder of a command."""
    candidates = [Path(place), *(runs / command / place for command in COMMANDS)]
    if Path(place).name != place:
        candidates = candidates[:1]
    for folder in candidates:
        if (folder / "summary.json").is_file():
            return folder
    tried = ", ".join(map(str, candidates))
    raise UserError(f"there is no finished search {place} (looked for summary.json in {tried}); name a run's folder")


def _read(folder: Path, name: str) -> FinishedSearch:
    summary = files.read_json(folder / "summary.json", "summary")
    rows = files.read_json(folder / "candidates.json", "candidates", files.LARGE)
    try:
        chosen = summary["chosen"]
        Arch.from_dict(chosen["arch"])
        scores = [{**row, **score} for row in rows for score in (*row.get("earlier_scores", ()), {})]
        for row in [chosen, *scores]:
            _check(row)
        if not scores:
            raise ValueError("there is no candidate")
        scored = Scored(figures.comparable(scores), str(chosen["digest"]), Intervals(load(folder)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder} holds no valid search ({error!r}); name the folder of a finished search") from error
    return FinishedSearch(name, summary, scored)


def _check(row: Mapping[str, Any]) -> None:
    """Raise an error unless a row of a candidate holds what charts show."""
    Arch.from_dict(row["arch"])
    metrics = row["metrics"].get("val", row["metrics"])
    if not all(isinstance(value, int | float) for value in (metrics["AP"], row["order"], *row["costs"].values())):
        raise ValueError("a figure is no number")
    if not {"macs", "params"} <= row["costs"].keys() or not isinstance(row["digest"], str):
        raise ValueError("costs or digest are missing")
    str(row["origin"])
