"""Which search to go on with, and with which options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from search.search_log import load_state
from supernet import files
from supernet.errors import UserError

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
