"""What a search keeps in its folder so that it can go on from wherever it was stopped (no torch)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search import journal
from search.candidate import Candidate, from_rows
from supernet import checksum, files
from supernet.errors import UserError

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
        files.write_json(self.folder / STATE_FILE, checksum.stamped(value))

    def add(self, candidate: Candidate) -> None:
        """Keep a candidate's newest score."""
        journal.append(self.folder / SCORES_FILE, candidate.row())

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
    if checksum.unstamped(kept) is None:
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
    rows = journal.read(path, "search scores")
    try:
        return from_rows(rows)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} holds no scores of a search ({error!r}); restore it or start anew") from error
