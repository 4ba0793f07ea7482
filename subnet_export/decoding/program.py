"""The text of an export's ``pose.py``: :mod:`subnet_export.decoding.pose` with the libraries of its files only."""

import inspect
import re
from collections.abc import Collection
from pathlib import Path

from subnet_export.decoding import pose

DEFAULT = "model.onnx"
"""The file whose library is kept if a folder has none that the program runs: for the next export."""


def program(names: Collection[str]) -> str:
    """Return the text of a program that runs the files ``names``, as far as one of its libraries does.

    Readers of an ONNX export need no ncnn: a function that opens other files is left out, with its line in the table.
    """
    text = Path(pose.__file__).read_text(encoding="utf-8")
    kept = pose.RUNTIMES.keys() & set(names) or {DEFAULT}
    unused = {*pose.RUNTIMES.values()} - {pose.RUNTIMES[name] for name in kept}
    parts = [inspect.getsource(function) + "\n\n" for function in unused]
    parts += [f'    "{name}": {pose.RUNTIMES[name].__name__},\n' for name in pose.RUNTIMES.keys() - kept]
    for part in parts:
        text = _without(text, part)
    if text.count(f"{pose.num_cores.__name__}()") == 1:  # nothing calls it
        text = _without(text, inspect.getsource(pose.num_cores) + "\n\n")
    return text if re.search(r"\bos\.", text) else text.replace("import os\n", "")


def _without(text: str, part: str) -> str:
    """Return the text without a part that it holds once."""
    assert text.count(part) == 1, f"pose.py holds {text.count(part)} of {part!r}"
    return text.replace(part, "")
