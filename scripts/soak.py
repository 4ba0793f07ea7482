"""Train, search, export and fine-tune at nano scale while killing, filling the disk and corrupting files at random.

    python -m scripts.soak --minutes=30 --out=runs/soak

One cycle runs undisturbed; then each command of every cycle meets faults until it has done its work, and what it came
to is compared with the undisturbed one's, to the bit. Writes ``soak.json`` after each cycle, with counts of faults and
how they were survived, of work done again, and every defect; the folder of a cycle with a defect is kept. Exit status 1
if there was one. Disks run full by a limit on the size of files (RLIMIT_FSIZE) in the command's process and, with
--disk=FOLDER, by a file that takes the space of a small file system. One that vanishes with the soak:

    unshare -m sh -c 'mount -t tmpfs -o size=64m none /mnt && python -m scripts.soak --disk=/mnt'
"""

import argparse
import random
import shutil
import sys
from pathlib import Path

from rich.table import Table

from scripts.soaking.cycle import Broken, Cycle
from scripts.soaking.faults import KINDS
from scripts.soaking.process import Clock
from scripts.soaking.stages import write_experiment
from scripts.soaking.tally import CONTINUED, TOLD, Tally
from supernet.cli.console import CONSOLE, progress_bar, run_command
from supernet.cli.signals import stop_request
from supernet.errors import UserError
from supernet.io import files

REPORT_FILE = "soak.json"
LARGEST_DISK = 2**30


class Stopped(Exception):
    """Time is over, or the user wants the end."""


def main() -> None:
    """Read the command line and soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="after the undisturbed cycle (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all faults and their moments (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="folder, new or empty (%(default)s)")
    parser.add_argument("--disk", type=Path, metavar="FOLDER", help="of a small file system, for cycles to fill (none)")
    parser.add_argument("--most-defects", type=int, default=20, help="stop after so many (%(default)s)")
    options = parser.parse_args()
    tally = Tally()
    run_command(lambda: soak(options, options.out.absolute(), tally))
    sys.exit(1 if tally.defects else 0)


def soak(options: argparse.Namespace, out: Path, tally: Tally) -> None:
    """Run cycles for so many minutes and report in ``out``.

    Raises:
        UserError: The folder is in use, the disk too large to be filled, or the undisturbed cycle fails.
    """
    minutes, seed = options.minutes, options.seed
    if not 0 < minutes < 1e6:
        raise UserError(f"--minutes is {minutes}; it must be above 0")
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
            reference = Cycle(0, folder, folder, random.Random(seed), clock, Tally(), None, stop_if_asked).undisturbed()
        except Stopped:
            raise UserError("stopped in the undisturbed cycle; nothing was counted") from None
        start = clock.tick()
        more = {"seed": seed, "minutes": minutes, "seconds_undisturbed": _rounded(reference.seconds)}

        def report() -> None:
            seconds = {"seconds": round(clock.tick() - start, 1)}
            files.write_json(out / REPORT_FILE, more | seconds | tally.report())

        def on_poll() -> None:
            stop_if_asked()
            passed = clock.tick() - start
            progress.update(task, completed=min(round(passed), round(60 * minutes)), note=tally.note())
            if passed >= 60 * minutes:
                raise Stopped

        report()
        progress.update(task, description="soaking")
        try:
            while len(tally.defects) < options.most_defects:
                number = tally.cycles + 1
                name, rng = f"cycle_{number}", random.Random(f"{seed} {number}")
                one_cycle(Cycle(number, place / name, out / name, rng, clock, tally, reference, on_poll, filler))
                report()
        except Stopped:
            pass
        report()
    CONSOLE.print(table(tally))
    for defect in tally.defects:
        CONSOLE.print(f"cycle {defect.cycle}, {defect.stage}: {defect.what}; see {defect.folder}", soft_wrap=True)
    CONSOLE.print(f"report: {out / REPORT_FILE}", soft_wrap=True)


def one_cycle(cycle: Cycle) -> None:
    """Run a cycle; its folder is removed unless there was a defect, and what time cut off does not count."""
    num_defects = len(cycle.tally.defects)
    cycle.folder.mkdir()
    try:
        cycle.disturbed()
        cycle.tally.cycles += 1
    except Broken:
        cycle.tally.cycles += 1
    except Stopped:
        cycle.forget_open()
        raise
    finally:
        if len(cycle.tally.defects) == num_defects:
            shutil.rmtree(cycle.folder)
        elif cycle.kept != cycle.folder:
            shutil.move(cycle.folder, cycle.kept)


def small_disk(disk: Path, out: Path) -> Path:
    """Return ``disk`` if it may be filled.

    Raises:
        UserError: It is no folder, not empty, on the disk of ``out``, or large.
    """
    if not disk.is_dir() or any(disk.iterdir()):
        raise UserError(f"--disk is {disk}; it must be an empty folder")
    if disk.stat().st_dev == out.stat().st_dev or shutil.disk_usage(disk).total > LARGEST_DISK:
        raise UserError(
            f"--disk is {disk}; give a file system of its own of at most {LARGEST_DISK:,} bytes, as it is filled"
        )
    return disk


def table(tally: Tally) -> Table:
    """Return the counts by kind of fault."""
    found = Table("fault", "injected", CONTINUED, TOLD, "not survived", title=tally.note())
    for kind in KINDS:
        outcomes = [fault.outcome for fault in tally.faults if fault.kind == kind]
        found.add_row(kind, *map(str, (len(outcomes), *map(outcomes.count, (CONTINUED, TOLD, "")))))
    return found


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in seconds.items()}


if __name__ == "__main__":
    main()
