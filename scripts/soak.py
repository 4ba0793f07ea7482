"""Train, search, export and fine-tune at nano scale under random kills, full disks and damaged files.

    python -m scripts.soak --minutes=30 --out=runs/soak

The first cycle runs undisturbed. In every other cycle each command meets faults until it completes, and its result is
compared with the undisturbed one to the bit. ``soak.json``, written after each cycle, counts faults and their outcomes,
repeated work, and lists every defect; the folder of a cycle with a defect is kept, and the exit status is then 1. Full
disks are simulated by a limit on file sizes (RLIMIT_FSIZE) in the command's process and, with --disk=FOLDER, by a file
that fills a small file system. A file system that vanishes with the soak:

    unshare -m sh -c 'mount -t tmpfs -o size=64m none /mnt && python -m scripts.soak --disk=/mnt'
"""

import argparse
import random
import shutil
import sys
from pathlib import Path

from rich.table import Table

from scripts.soaking.counts import CONTINUED, REPORTED, Counts
from scripts.soaking.cycle import Broken, Cycle
from scripts.soaking.faults import KINDS
from scripts.soaking.process import Clock
from scripts.soaking.stages import write_experiment
from supernet.cli.console import CONSOLE, progress_bar, run_command
from supernet.cli.signals import stop_request
from supernet.errors import UserError
from supernet.io import files

REPORT_FILE = "soak.json"
LARGEST_DISK = 2**30
"""Bytes; a larger file system is not filled."""


class Stopped(Exception):
    """The time is over, or the user asked to stop."""


def main() -> None:
    """Read the command line and soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="time after the undisturbed cycle (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all faults (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="output folder, new or empty (%(default)s)")
    parser.add_argument("--disk", type=Path, metavar="FOLDER", help="a small file system that is filled (none)")
    parser.add_argument("--most-defects", type=int, default=20, help="stop after this number of defects (%(default)s)")
    options = parser.parse_args()
    counts = Counts()
    run_command(lambda: soak(options, options.out.absolute(), counts))
    sys.exit(1 if counts.defects else 0)


def soak(options: argparse.Namespace, out: Path, counts: Counts) -> None:
    """Run cycles for the given time and write the report to ``out``.

    Raises:
        UserError: The folder is not empty, the disk is too large, or the undisturbed cycle fails.
    """
    minutes, seed = options.minutes, options.seed
    if not 0 < minutes < 1e6:
        raise UserError(f"--minutes must be above 0, got {minutes}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty; choose another --out or remove it")
    out.mkdir(parents=True, exist_ok=True)
    place = out if options.disk is None else small_disk(options.disk.absolute(), out)
    filler = None if options.disk is None else place / "filler"
    write_experiment(place)
    with stop_request() as stop_requested, progress_bar() as progress:
        task = progress.add_task("undisturbed cycle", total=round(60 * minutes), note="")
        clock = Clock()

        def stop_if_asked() -> None:
            if stop_requested():
                raise Stopped

        folder = place / "undisturbed"
        try:
            reference = Cycle(
                0, folder, folder, random.Random(seed), clock, Counts(), None, stop_if_asked
            ).undisturbed()
        except Stopped:
            raise UserError("stopped during the undisturbed cycle; there is no report") from None
        start = clock.tick()
        settings = {"seed": seed, "minutes": minutes, "seconds_undisturbed": _rounded(reference.seconds)}

        def report() -> None:
            seconds = {"seconds": round(clock.tick() - start, 1)}
            files.write_json(out / REPORT_FILE, settings | seconds | counts.report())

        def on_poll() -> None:
            stop_if_asked()
            elapsed = clock.tick() - start
            progress.update(task, completed=min(round(elapsed), round(60 * minutes)), note=counts.summary_line())
            if elapsed >= 60 * minutes:
                raise Stopped

        report()
        progress.update(task, description="soaking")
        try:
            while len(counts.defects) < options.most_defects:
                number = counts.cycles + 1
                name, rng = f"cycle_{number}", random.Random(f"{seed} {number}")
                run_cycle(Cycle(number, place / name, out / name, rng, clock, counts, reference, on_poll, filler))
                report()
        except Stopped:
            pass
        report()
    CONSOLE.print(table(counts))
    for defect in counts.defects:
        CONSOLE.print(f"cycle {defect.cycle}, {defect.stage}: {defect.what}; see {defect.folder}", soft_wrap=True)
    CONSOLE.print(f"report: {out / REPORT_FILE}", soft_wrap=True)


def run_cycle(cycle: Cycle) -> None:
    """Run a cycle. Its folder is removed unless there is a defect; pending faults of a stopped cycle do not count."""
    num_defects = len(cycle.counts.defects)
    cycle.folder.mkdir()
    try:
        cycle.disturbed()
        cycle.counts.cycles += 1
    except Broken:
        cycle.counts.cycles += 1
    except Stopped:
        cycle.discard_pending()
        raise
    finally:
        if len(cycle.counts.defects) == num_defects:
            shutil.rmtree(cycle.folder)
        elif cycle.kept != cycle.folder:
            shutil.move(cycle.folder, cycle.kept)


def small_disk(disk: Path, out: Path) -> Path:
    """Return ``disk`` if it may be filled.

    Raises:
        UserError: It is not a folder, not empty, on the file system of ``out``, or too large.
    """
    if not disk.is_dir() or any(disk.iterdir()):
        raise UserError(f"--disk must be an empty folder, got {disk}")
    if disk.stat().st_dev == out.stat().st_dev or shutil.disk_usage(disk).total > LARGEST_DISK:
        raise UserError(
            f"--disk must be a separate file system of at most {LARGEST_DISK:,} bytes, as it is filled; got {disk}"
        )
    return disk


def table(counts: Counts) -> Table:
    """Return the counts by kind of fault."""
    shown = Table("fault", "injected", CONTINUED, REPORTED, "not survived", title=counts.summary_line())
    for kind in KINDS:
        outcomes = [fault.outcome for fault in counts.faults if fault.kind == kind]
        shown.add_row(kind, *map(str, (len(outcomes), *map(outcomes.count, (CONTINUED, REPORTED, "")))))
    return shown


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in seconds.items()}


if __name__ == "__main__":
    main()
