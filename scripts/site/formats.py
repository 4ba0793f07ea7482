"""The pages of the export formats, from the registry of formats; a file in ``docs/deployment`` adds text to one."""

from subnet_export.deployment.formats import FORMATS, LITEPOSE, LOADABLE
from supernet.version import PROJECT

TABLE = "<!-- table of formats -->"
"""Where a page shows the table of all formats."""


def names() -> list[str]:
    """Return the names of all formats."""
    return list(FORMATS)


def place(name: str) -> str:
    """Return the place of the page of a format."""
    return f"deployment/{name}.md"


def table() -> str:
    """Return the table of all formats."""
    rows = ["| format | for | runs on | files | extra | runs here |", "|---|---|---|---|---|---|"]
    for name, chosen in FORMATS.items():
        files = ", ".join(f"`{file}`" for file in chosen.files)
        extra = f"`{chosen.extra}`" if chosen.extra else ""
        cells = [f"[{name}]({name}.md)", chosen.purpose, chosen.runs_on, files, extra, _yes(name in LOADABLE)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def page(name: str, text: str) -> str:
    """Return the page of a format: what the registry says, then the written text."""
    chosen = FORMATS[name]
    lines = [f"# {name}", "", f"{chosen.purpose[0].upper()}{chosen.purpose[1:]}. Runs on: {chosen.runs_on}.", ""]
    if chosen.extra:
        lines += ["<!-- needs: a package index -->", "```bash", f"pip install '{PROJECT}[{chosen.extra}]'", "```", ""]
    first_use = ["<!-- needs: the environment of the converter, made on first use -->"] if chosen.environment else []
    if chosen != LITEPOSE:
        lines += [*first_use, "```bash", f"litepose export --format {name}", "```", ""]
        python = f'model = result.best.export("{name}")   # a subnet of a search: see the quickstart'
        lines += ["```python", python, "```", ""]
    files = ", ".join(f"`{file}`" for file in chosen.files)
    lines += [f"Files: {files}, beside `model.json` with their checksums.", ""]
    if chosen.environment:
        place = "[a separate Python environment](../formats.md#separate-environments)"
        lines += [f"The converter runs in {place}, which the first export in this format creates.", ""]
    if chosen.packages:
        lines += [f"Packages: {', '.join(chosen.packages)}.", ""]
    if name in LOADABLE and chosen != LITEPOSE:
        lines += [*first_use, "```bash", f"litepose predict photo.jpg --format {name}", "```", ""]
    return "\n".join(lines) + text


def _yes(value: bool) -> str:
    return "yes" if value else "no"
