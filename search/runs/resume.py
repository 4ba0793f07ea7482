"""What a search keeps in its folder so that it can go on from wherever it was stopped (no torch)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from search.candidate import Candidate, from_rows
from supernet.errors import UserError
from supernet.io import checksum, files, jsonl

STATE_FILE = "state.json"
SCORES_FILE = "scores.jsonl"
FORMAT = 1


class SearchLog:
    """State and scores of one search: ``state.json``, replaced whole, and ``scores.jsonl``, a line for each score.

    Args:
        folder: The run folder.
        config: The run's plain configuration, with which it goes on.
        identity: What must not change while the search goes on, by name: short texts.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], identity: Mapping[str, str]) -> None:
        self.folder = folder
        self._config, self._identity = dict(config), dict(identity)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep the engine's state, all or nothing."""
        value = {"format": FORMAT, "config": self._config, "identity": self._identity, "search": dict(state)}
        files.write_json(self.folder / STATE_FILE, checksum.with_checksum(value))

    def add(self, candidate: Candidate) -> None:
        """Keep a candidate's newest score."""
        jsonl.append(self.folder / SCORES_FILE, candidate.row())

    def check_identity(self, kept: Mapping[str, Any]) -> None:
        """Raise UserError unless the search that was ``kept`` is this one, with the first value that differs."""
        for name, now in self._identity.items():
            before = kept["identity"].get(name)
            if before != now:
                raise UserError(
                    f"{self.folder} was searched with {name} {before} but now it is {now}; "
                    "restore what it was, or start a new search"
                )


def load_state(folder: Path) -> dict[str, Any]:
    """Return what ``SearchLog.save_state`` kept in ``folder``: config, identity and search.

    Raises:
        UserError: There is none, or it is damaged or of another format.
    """
    if not (folder / STATE_FILE).exists():
        raise UserError(f"there is no {STATE_FILE} in {folder}; name the folder of a stopped search or start a new one")
    kept = files.read_json(folder / STATE_FILE, "search state")
    parts = ("config", "identity", "search")
    if not isinstance(kept, dict) or "format" not in kept or not all(isinstance(kept.get(key), dict) for key in parts):
        raise UserError(f"{folder / STATE_FILE} is not the state of a search; restore it or start a new search")
    if checksum.without_checksum(kept) is None:
        raise UserError(f"{folder / STATE_FILE} is damaged: its checksum differs; restore it or start a new search")
    if kept["format"] != FORMAT:
        raise UserError(f"{folder / STATE_FILE} has format {kept['format']!r}, this release reads {FORMAT}; start anew")
    return kept


def load_scored(folder: Path) -> list[Candidate]:
    """Return the candidates scored so far, with all their scores; a cut last line is taken off, with a warning.

    Raises:
        UserError: The file is damaged elsewhere.
    """
    path = folder / SCORES_FILE
    if not path.exists():
        return []
    rows = jsonl.read(path, "search scores")
    try:
        return from_rows(rows)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} holds no scores of a search ({error!r}); restore it or start anew") from error


CHANGEABLE = ("resume", "runs", "supernet", "cache", "batch_size", "threads", "device")
"""Options that a search may go on with other values of; a supernet only of the same weights."""


def run_to_resume(
    config: Mapping[str, Any], overrides: Sequence[str], command: str
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Return the folder that ``resume`` names, what is kept there, and the configuration to go on with.

    That is the run's own; an option given anew must be one of ``CHANGEABLE`` or have the run's value.

    Raises:
        UserError: There is no search to go on with, or an option is given another value.
    """
    resume = Path(config["resume"])
    folder = Path(config["runs"]) / command / "latest" if config["resume"] == "latest" else resume
    kept = load_state(folder)
    folder = folder.resolve()
    files.refuse_links(folder)
    if (folder / "summary.json").exists():
        raise UserError(f"{folder} is finished; use its arch or start a new search")
    own = kept["config"]
    for override in overrides:
        option = override.split("=")[0].lstrip("+~").partition(".")[0]
        if option not in CHANGEABLE:
            _check_equal(option, own.get(option), config.get(option), folder)
    given = {override.split("=")[0].lstrip("+~") for override in overrides}
    return folder, kept, {**own, **{key: config[key] for key in CHANGEABLE if key in given}, "resume": str(folder)}


def _check_equal(place: str, before: Any, now: Any, folder: Path) -> None:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in [*before, *(key for key in now if key not in before)]:
            _check_equal(f"{place}.{key}", before.get(key), now.get(key), folder)
    elif before != now:
        told = [shorten(str(value), 60, placeholder=" ...") for value in (now, before)]
        raise UserError(
            f"{place} is {told[0]} but the search in {folder} began with {told[1]}, which it keeps; "
            "leave it out, or start a new search"
        )
