"""Options that hold paths and names: taken as they are typed or completed by a shell, whatever characters they have.

Hydra reads every value by a grammar in which letters beyond ASCII, brackets, ``~``, ``#``, ``=`` or commas are errors
or have a meaning. Here such values are quoted before Hydra sees them.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

PATH_OPTIONS = frozenset(
    {
        *("arch", "cache", "init", "init_arch", "latency_table", "output", "resume", "runs", "storage", "supernet"),
        *("weights", "dataset.root"),
        *(f"dataset.{split}.{kind}" for split in ("train", "val", "test") for kind in ("annotations", "images")),
    }
)
"""Options that hold the path of a file or folder, in all configurations; nested ones with dots."""
TEXT_OPTIONS = PATH_OPTIONS | {"name", "study", "dataset.category", "dataset.keypoints.name"}
"""Options that hold a path or a name."""
LIST_OPTIONS = frozenset({"dataset.category", "dataset.keypoints.names", "dataset.keypoints.unpaired"})
"""Options that may hold several names, as [NAME,NAME]."""
PAIR_OPTIONS = frozenset({"dataset.keypoints.flip_pairs", "dataset.keypoints.skeleton"})
"""Options that hold pairs of names, or of numbers, as [[NAME,NAME],[NAME,NAME]]."""

_SWEEP_FUNCTIONS = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag)\(")


def quoted(arguments: Sequence[str]) -> list[str]:
    """Return a command line in which Hydra takes the values of ``TEXT_OPTIONS`` as they are.

    ``null``, values in Hydra's quotes and interpolations (``${runs}/x``) keep their meaning. So do lists of
    ``LIST_OPTIONS`` and ``PAIR_OPTIONS``, in which names are taken as they are; one with a comma needs Hydra's quotes.
    With ``--multirun`` commas separate the values of a sweep; a comma inside a path then needs Hydra's quotes.

    Args:
        arguments: Words of a command line, or overrides such as ``dataset.root=FOLDER``.
    """
    is_sweep = any(word in ("--multirun", "-m") or word.lower() == "hydra.mode=multirun" for word in arguments)
    result = []
    for word in arguments:
        option, separator, value = word.partition("=")
        if option in ("--config-dir", "-cd"):
            value = os.path.expanduser(value)
        elif option.lstrip("+") in LIST_OPTIONS | PAIR_OPTIONS and value.startswith("[") and value.endswith("]"):
            as_list = _quoted_pairs if option.lstrip("+") in PAIR_OPTIONS else _quoted_list
            value = value if is_sweep or "'" in value or '"' in value else as_list(value)
        elif option.lstrip("+") in TEXT_OPTIONS and separator and not _is_grammar(value, is_sweep):
            value = ",".join(map(_quoted, value.split(","))) if is_sweep else _quoted(value)
        result.append(f"{option}{separator}{value}")
    return result


def _is_grammar(value: str, is_sweep: bool) -> bool:
    """Whether a value is meant as Hydra reads it."""
    if value in ("", "null") or (is_sweep and _SWEEP_FUNCTIONS.match(value)):
        return True
    is_in_quotes = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    is_marked = "${" in value or is_in_quotes or (is_sweep and ("'" in value or '"' in value))
    return is_marked and _parsed(value) is not None


def _quoted(value: str) -> str:
    """Return ``value`` in quotes, unless Hydra reads it as the same text without them."""
    override = _parsed(value)
    if override is not None and not override.is_sweep_override() and override.value() == value:
        return value
    return str(QuotedString(text=value, quote=Quote.single).with_quotes())


def _quoted_list(value: str) -> str:
    """Return a list ``[NAME,NAME]`` whose names are texts, whatever characters they have."""
    names = [name.strip() for name in value[1:-1].split(",")]
    return f"[{','.join(_quoted(name) for name in names if name)}]"


def _quoted_pairs(value: str) -> str:
    """Return a list of pairs ``[[NAME,NAME]]`` whose names are texts; whole numbers stay numbers."""

    def name(match: re.Match[str]) -> str:
        text = match[0].strip()
        return _quoted(text) if text and not text.isdecimal() else text

    return re.sub(r"[^\[\],]+", name, value)


def _parsed(value: str) -> Override | None:
    """Return what Hydra makes of a value; None for an error."""
    try:
        return OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return None


def with_home(config: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return a plain configuration whose paths may begin with ``~``, the user's folder, with that folder's path."""

    def expanded(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return with_home(value, f"{prefix}{key}.")
        return os.path.expanduser(value) if f"{prefix}{key}" in PATH_OPTIONS and isinstance(value, str) else value

    return {str(key): expanded(str(key), value) for key, value in config.items()}
