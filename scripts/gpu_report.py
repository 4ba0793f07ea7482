"""Report on one GPU: speed, utilisation, memory, training, resuming, evaluation, export, latencies, tests.

Run as ``python -m scripts.gpu_report [--minutes 9] [--out docs/results/gpu] [--device cuda|cpu] [--only NAME,...]``.

It needs nothing but this repository. The most informative sections come first; what does not fit into ``--minutes`` is
left out, and the report says so. ``report.json`` and ``report.md`` are written after every section, so that a killed
run keeps what it measured. A section that fails is reported with its traceback, and the others still run; the exit
status is then 1. On a CPU every section runs in a reduced form, which tests this script where there is no GPU.
"""

import importlib
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts.gpu_reporting.page import page
from scripts.gpu_reporting.runner import SECTIONS, Report, run_sections
from supernet.cli.arguments import CommandLine, list_of, number
from supernet.errors import UserError, suggestion
from supernet.io import files


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the report; exit with status 1 if a section failed."""
    parser = CommandLine("python -m scripts.gpu_report", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--minutes", metavar="N", type=number(0.1, 600), default=9.0, help="time for all of it (default: %(default)g)"
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        default=Path("docs/results/gpu"),
        help="where report.json and report.md are written (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu (default: %(default)s)")
    parser.add_argument(
        "--only",
        metavar="NAME,...",
        type=list_of(_names),
        default=tuple(SECTIONS),
        help=f"sections to run, among {', '.join(SECTIONS)} (default: all)",
    )
    parser.add_argument(
        "--train-seconds",
        metavar="N",
        type=number(1, 3600),
        help="length of the short training (default: 60, on a CPU 4)",
    )
    parser.add_argument(
        "--merge",
        metavar="FOLDER",
        type=Path,
        nargs="+",
        help="measure nothing: join the reports in these folders, whose sections ran at the same time or one by one",
    )
    parser.add_argument("--alone", action="store_true", help="run every section in this process")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    try:
        if options.merge:
            merge(options.merge, options.out)
            return
        context_of = importlib.import_module("scripts.gpu_reporting.context")  # imports torch, so not before --help
        report = Report(options.out, page, {"command": " ".join(["python -m scripts.gpu_report", *sys.argv[1:]])})
        with tempfile.TemporaryDirectory(prefix="gpu_report_") as work:
            context = context_of.build(options.device, Path(work), began + 60 * options.minutes, options.train_seconds)
            context.may_start_processes = not options.alone
            report.head |= {
                "date": f"{datetime.now():%Y-%m-%d %H:%M}",
                "device": str(context.device),
                "minutes": options.minutes,
            }
            run_sections(context, report, options.only)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{report.path('json')} and {report.path('md')}, after {time.perf_counter() - began:.0f} s")
    if failed := [name for name, section in report.sections.items() if section["status"] == "failed"]:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise SystemExit(1)


def merge(folders: list[Path], out: Path) -> None:
    """Write the sections of the reports in ``folders`` as one report into ``out``; the head is that of the first."""
    reports = [files.read_json(folder / "report.json", "report") for folder in folders]
    sections = {name: part for value in reversed(reports) for name, part in value.pop("sections").items()}
    head = reports[0] | {"command": "; ".join(value["command"] for value in reports)}
    Report(out, page, head, {name: sections[name] for name in SECTIONS if name in sections}).save()


def _names(text: str) -> tuple[str, ...]:
    """Parse names of sections; the order of the report stays."""
    chosen: Any = [name.strip() for name in text.split(",")]
    for name in chosen:
        if name not in SECTIONS:
            raise ValueError(f"there is no section {name!r}{suggestion(name, SECTIONS)}; choose among {list(SECTIONS)}")
    return tuple(name for name in SECTIONS if name in chosen)


if __name__ == "__main__":
    main()
