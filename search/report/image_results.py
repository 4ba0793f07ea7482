"""The file of a search run with the matches of each subnet image by image, for intervals of AP (no torch)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supernet.errors import UserError
from supernet.io import files

FILE = "image_matches.json"
FORMAT = 1

Matches = Mapping[str, Mapping[int, Mapping[str, str]]]
"""Text of the matches by split, "val" or "test", number of images and digest of the arch."""

NONE: Matches = {"val": {}, "test": {}}
"""Of a search that kept none."""


def save(folder: Path, matches: Matches) -> None:
    """Write the matches of a run."""
    value = {
        "format": FORMAT,
        **{split: {str(n): dict(texts) for n, texts in matches[split].items()} for split in matches},
    }
    files.write_json(folder / FILE, value)


def load(folder: Path) -> Matches:
    """Read the matches of a run; those of an earlier release are empty.

    Raises:
        UserError: The file is damaged or of another format.
    """
    path = folder / FILE
    if not path.exists():
        return NONE
    value: Any = files.read_json(path, "matches of images", files.LARGE)
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        raise UserError(f"{path} is not a file of matches of format {FORMAT}; remove it, or run the search again")
    try:
        return {
            split: {
                int(number): {str(digest): str(text) for digest, text in texts.items()}
                for number, texts in value[split].items()
            }
            for split in ("val", "test")
        }
    except (KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); remove it, or run the search again") from error
