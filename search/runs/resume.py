"""Saves a search in its run folder, and finds and checks a stopped search to resume (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from search.candidate import Candidate, from_rows
from supernet.cli.grammar import option_of
from supernet.cli.runs import find_run
from supernet.errors import UserError
from supernet.io import checksum, files, jsonl

STATE_FILE = "state.json"
SCORES_FILE = "scores.jsonl"
FORMAT = 1
CHANGEABLE = ("resume", "runs", "supernet", "cache", "batch_size", "threads", "device")
"""Options that may differ when a search is resumed, besides the folder of its images; the supernet must have the same
weights."""
ROOT = "dataset.root"


@dataclass(frozen=True)
class SavedSearch:
    """A search as :class:`SearchLog` saved it, without its scores.

    Attributes:
        folder: Run folder.
        config: Plain configuration.
        identity: What must not change when the search is resumed, by name.
        state: State of the search engine.
    """

    folder: Path
    config: dict[str, Any]
    identity: dict[str, str]
    state: dict[str, Any]


class SearchLog:
    """State and scores of one search: ``state.json``, replaced as a whole, and ``scores.jsonl``, a line per score.

    Args:
        folder: Run folder.
        config: Plain configuration to resume the run with.
        identity: Short texts by name, such as the checksum of the weights, that must be the same on resuming.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], identity: Mapping[str, str]) -> None:
        self.folder = folder
        self._config, self._identity = dict(config), dict(identity)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the state of the search engine, all or nothing."""
        value = {"format": FORMAT, "config": self._config, "identity": self._identity, "search": dict(state)}
        files.write_json(self.folder / STATE_FILE, checksum.with_checksum(value))

    def add(self, candidate: Candidate, seconds: float, matches: str | None = None) -> None:
        """Append the newest score of a candidate.

        Args:
            candidate: The candidate.
            seconds: How long the search has taken so far.
            matches: Of the candidate image by image, where no cache keeps them.
        """
        own = {} if matches is None else {"matches": matches}
        jsonl.append(self.folder / SCORES_FILE, candidate.row() | {"seconds": seconds} | own)

    def check_identity(self, saved: SavedSearch) -> None:
        """Raise UserError with the first difference unless ``saved`` is a search of the same things as this one."""
        for name, now in self._identity.items():
            before = saved.identity.get(name)
            if before != now:
                raise UserError(
                    f"{self.folder} was searched with {name} {before} but now it is {now}; "
                    "restore it, or start a new search"
                )


def load_state(folder: Path) -> SavedSearch:
    """Return the search that :meth:`SearchLog.save_state` wrote to ``folder``.

    Raises:
        UserError: There is none, it is damaged, or it has another format.
    """
    path = folder / STATE_FILE
    if not path.exists():
        raise UserError(f"there is no {STATE_FILE} in {folder}; name the folder of a stopped search or start a new one")
    value = files.read_json(path, "search state")
    keys = ("config", "identity", "search")
    if not isinstance(value, dict) or "format" not in value or not all(isinstance(value.get(k), dict) for k in keys):
        raise UserError(f"{path} is not the state of a search; restore it or start a new search")
    if checksum.without_checksum(value) is None:
        raise UserError(f"{path} is damaged: its checksum differs; restore it or start a new search")
    if value["format"] != FORMAT:
        raise UserError(f"{path} has format {value['format']!r}, this release reads {FORMAT}; start a new search")
    return SavedSearch(folder, value["config"], value["identity"], value["search"])


def load_scored(folder: Path) -> list[Candidate]:
    """Return the candidates scored so far with all their scores; removes a cut last line with a warning.

    Raises:
        UserError: Another line of the file is damaged.
    """
    rows, path = _rows(folder), folder / SCORES_FILE
    try:
        return from_rows(rows)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} has no valid scores ({error!r}); restore it or start a new search") from error


def load_matches(folder: Path) -> list[tuple[Candidate, str]]:
    """Return each score, as a candidate with no other, that :meth:`SearchLog.add` wrote with matches; and these."""
    rows = [row for row in _rows(folder) if "matches" in row]
    return [(Candidate.from_row(row), str(row["matches"])) for row in rows]


def seconds_before(folder: Path) -> float:
    """Return how long a stopped search had taken when :meth:`SearchLog.add` wrote its last score."""
    return max((row["seconds"] for row in _rows(folder) if type(row.get("seconds")) in (int, float)), default=0.0)


def _rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / SCORES_FILE
    return jsonl.read(path, "search scores") if path.exists() else []


def run_to_resume(config: Mapping[str, Any], overrides: Sequence[str], command: str) -> SavedSearch:
    """Return the stopped search that the option ``resume`` names, with the configuration to continue with.

    This is the configuration of the stopped search. An option on the command line must be one of ``CHANGEABLE`` or
    ``ROOT``, or have the value it had.

    Raises:
        UserError: There is no search to resume, or an option has another value.
    """
    saved = load_state(find_run(config["runs"], command, config["resume"]))
    folder = saved.folder.resolve()
    files.refuse_links(folder)
    if (folder / "summary.json").exists():
        raise UserError(f"{folder} is finished; use its arch or start a new search")
    overridden = {option_of(override) for override in overrides}
    if ROOT in overridden:
        moved = {**(saved.config.get("dataset") or {}), "root": config["dataset"].get("root")}
        saved = replace(saved, config=saved.config | {"dataset": moved})
    for option in dict.fromkeys(name.partition(".")[0] for name in map(option_of, overrides) if name != ROOT):
        if option not in CHANGEABLE:
            _check_equal(option, saved.config.get(option), config.get(option), folder)
    changes = {key: config[key] for key in CHANGEABLE if key in overridden}
    return replace(saved, folder=folder, config=saved.config | changes | {"resume": str(folder)})


def _check_equal(option: str, before: Any, now: Any, folder: Path) -> None:
    """Raise UserError unless two values of an option are equal; mappings are compared key by key."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in [*before, *(key for key in now if key not in before)]:
            _check_equal(f"{option}.{key}", before.get(key), now.get(key), folder)
    elif before != now:
        shown_now, shown_before = (shorten(str(value), 60, placeholder=" ...") for value in (now, before))
        raise UserError(
            f"{option} is {shown_now} but the search in {folder} was started with {shown_before}; "
            f"a resumed search keeps its options: leave {option} out, or start a new search"
        )
