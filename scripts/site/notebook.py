"""Shows a notebook as a page."""

import json
from pathlib import Path


def cells(path: Path) -> list[tuple[str, str]]:
    """Return the kind ("markdown" or "code") and the text of each cell of a notebook."""
    value = json.loads(path.read_text(encoding="utf-8"))
    return [(cell["cell_type"], "".join(cell["source"])) for cell in value["cells"]]


def page(path: Path) -> str:
    """Return the cells of a notebook as Markdown."""
    parts = [text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells(path)]
    note = f"This page is the notebook `docs/{path.name}`, which runs in the tests as it is."
    return "\n\n".join([parts[0], note, *parts[1:]]) + "\n"
