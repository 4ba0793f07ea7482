"""Hooks of mkdocs (``mkdocs.yml``): they add the pages that are made from the code."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from scripts.site import commands, configuration, formats, notebook

DOCS = Path(__file__).resolve().parents[2] / "docs"

MADE: dict[str, Callable[[], str]] = {
    "notebook.md": lambda: notebook.page(DOCS / "quickstart.ipynb"),
    "reference/commands.md": commands.page,
    "reference/configuration.md": configuration.page,
}
"""Pages that are made when the site is built."""

_TO_THE_REPOSITORY = re.compile(
    r"\[([^\]]*)\]\((?:\.\./)+((?:supernet|search|subnet_export|conf|scripts|tests|README|CONTRIBUTING)[^)]*)\)"
)
"""A link from a page to a file of the repository that is no page."""


def on_config(config: Any) -> Any:
    """Add the page of each format to the navigation."""
    for section in config.nav:
        if "Deployment" in section:
            section["Deployment"] = [*section["Deployment"], *map(formats.place, formats.names())]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from the code."""
    pages = {place: make() for place, make in MADE.items()}
    for name in formats.names():
        place = formats.place(name)
        written = files.get_file_from_path(place)
        pages[place] = formats.page(name, "" if written is None else written.content_string)
        if written is not None:
            files.remove(written)
    for place, text in pages.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill in the table of formats, and name files of the repository instead of linking to them."""
    return _TO_THE_REPOSITORY.sub(_named, markdown.replace(formats.TABLE, formats.table()))


def _named(link: re.Match[str]) -> str:
    """Return the text of a link and the file that it leads to."""
    text, file = link.groups()
    return f"`{file}`" if file.endswith(text) else f"{text} (`{file}`)"
