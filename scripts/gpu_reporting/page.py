"""The report as a readable page in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scripts.gpu_reporting.runner import SECTIONS

_LINES_OF_ERROR = 25


def page(report: dict[str, Any]) -> str:
    """Return the page of a report; sections of any content are shown, nested figures as lists and tables."""
    lines = ["# GPU report", ""]
    lines += [f"- {key}: {_text(value)}" for key, value in report.items() if key != "sections"]
    for name, section in report["sections"].items():
        lines += ["", f"## {SECTIONS[name].title}", ""]
        status = section["status"]
        if status != "done":
            lines += [f"**{status}** {section.get('reason', '')}".rstrip(), ""]
        figures = {key: value for key, value in section.items() if key not in ("status", "error", "reason")}
        lines += _shown(figures, 3)
        if "error" in section:
            lines += ["", "```", *section["error"].rstrip().splitlines()[-_LINES_OF_ERROR:], "```"]
    return "\n".join(lines) + "\n"


def _shown(figures: Mapping[str, Any], level: int) -> Iterator[str]:
    """Yield scalars as a list, then lists of mappings as tables and mappings under headings."""
    nested = {}
    for key, value in figures.items():
        if _is_table(value) or (isinstance(value, Mapping) and not _is_flat(value)):
            nested[key] = value
        else:
            yield f"- {key}: {_text(value)}"
    for key, value in nested.items():
        yield from ("", f"{'#' * min(level, 6)} {key}", "")
        yield from _table(value) if isinstance(value, Sequence) else _shown(value, level + 1)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _is_flat(value: Mapping[str, Any]) -> bool:
    return len(value) <= 4 and not any(isinstance(entry, Mapping | list) for entry in value.values())


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    yield f"| {' | '.join(columns)} |"
    yield f"|{'|'.join(['---'] * len(columns))}|"
    for row in rows:
        yield f"| {' | '.join(_text(row.get(key, '')) for key in columns)} |"


def _text(value: Any) -> str:
    """Return a figure in one line; of a spread, the median and the range."""
    if isinstance(value, Mapping):
        if set(value) == {"median", "least", "most"}:
            return f"{_text(value['median'])} ({_text(value['least'])} to {_text(value['most'])})"
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    text = f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
