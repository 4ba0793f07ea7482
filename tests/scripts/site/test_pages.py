"""The pages that are made from the code, and the site that is built from all pages."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.site import commands, configuration, formats, notebook
from subnet_export.deployment.formats import FORMATS
from supernet.cli.commands import installed
from tests.helpers.searches import plain_config

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_page_and_a_row_that_name_its_files(name: str) -> None:
    page = formats.page(name, "\n## More\n")
    (row,) = [line for line in formats.table().splitlines() if line.startswith(f"| [{name}]({name}.md)")]
    for file in FORMATS[name].files:
        assert f"`{file}`" in page
        assert f"`{file}`" in row
    assert page.startswith(f"# {name}\n")
    assert page.endswith("## More\n")
    assert (f"[{FORMATS[name].extra}]'" in page) == bool(FORMATS[name].extra)


def test_texts_about_formats_are_of_formats_that_exist() -> None:
    written = {path.stem for path in (ROOT / "docs" / "deployment").glob("*.md")} - {"index"}
    assert written <= set(formats.names())


def test_every_option_of_training_is_in_the_table() -> None:
    page = configuration.page()
    training = page[page.index("## litepose train") : page.index("## litepose search")]
    for name in plain_config("train").keys() - {"space", "dataset", "phases"}:
        assert f"| `{name}" in training, name


def test_every_command_is_listed_and_helps() -> None:
    page = commands.page()
    for command in installed().values():
        assert f"[`litepose {command.name}`](" in page
        if command.config is None:
            assert f"## litepose {command.name}\n" in page
    assert page.count("usage: litepose") >= 10
    assert sys.argv[0] != "litepose"


def test_a_notebook_becomes_a_page_with_its_code() -> None:
    cells, page = notebook.cells(ROOT / "docs" / "quickstart.ipynb"), notebook.page(ROOT / "docs" / "quickstart.ipynb")
    assert page.startswith("# ")
    assert all(text in page for _, text in cells)


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs")
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """A dead link between pages is an error of ``--strict``."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|link|iframe)[^>]*?(?:src|href)=\"(https?://[^\"]*)\"", page.read_text("utf-8")
        )
        assert not loaded, f"{page} loads {loaded}"
    for name in FORMATS:
        assert (tmp_path / "site" / "deployment" / f"{name}.html").exists()
