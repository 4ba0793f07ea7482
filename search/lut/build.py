"""Measure every block of a space, and some whole networks, and write the table."""

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from search.lut.measure import Journal, JournalError, measure
from search.lut.measurements import read_measurements, table_from
from search.lut.runtimes import Runtime
from search.lut.workloads import draw_networks, header, workloads
from supernet.arch import Arch
from supernet.cli.console import CONSOLE, progress_bar
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from supernet.io import files
from supernet.space import SearchSpace


def build(
    engine: Runtime,
    space: SearchSpace,
    num_keypoints: int,
    networks: Sequence[Arch],
    output: Path,
    rounds: int,
    minutes: float,
    console: Console = CONSOLE,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyTable:
    """Measure under a progress bar and write the table to ``output``.

    What was measured stands in ``<output>.partial`` at any time: an interrupted build goes on from there.

    Args:
        engine: Runs the blocks.
        space: Whose blocks these are.
        num_keypoints: Of the networks.
        networks: Whole networks to fit the overhead on.
        output: New file.
        rounds: Visits of each block.
        minutes: After that, only the first round is still ended.
        console: Where progress is shown.
        clock: Seconds.

    Raises:
        UserError: ``output`` exists, its partial file is of another build or in use, or the build was interrupted.
    """
    check_new(output)
    partial = output.with_name(f"{output.name}.partial")
    run_rounds(engine, space, num_keypoints, networks, partial, rounds, minutes, console, clock)
    table = table_from(*read_measurements(partial))
    write_table(table, output)
    partial.unlink()
    return table


def run_rounds(
    engine: Runtime,
    space: SearchSpace,
    num_keypoints: int,
    networks: Sequence[Arch],
    journal_file: Path,
    rounds: int,
    minutes: float,
    console: Console = CONSOLE,
    clock: Callable[[], float] = time.perf_counter,
    with_blocks: bool = True,
) -> None:
    """Visit the subjects in rounds and write every visit to ``journal_file``; see :func:`build`."""
    found = workloads(space, num_keypoints, networks)
    if not with_blocks:
        found = {name: subject for name, subject in found.items() if isinstance(subject, Arch)}
    head = header(space, num_keypoints, networks, asdict(engine.settings))
    try:
        journal_file.parent.mkdir(parents=True, exist_ok=True)
        journal = Journal(journal_file, json.loads(json.dumps(head)))
    except JournalError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"cannot write {journal_file}: {error.strerror}; choose another place") from error
    visits = measure(journal, list(found), lambda name: engine.open(found[name]), rounds, minutes, clock)
    with closing(journal), progress_bar(console) as progress:
        done = len(journal.visits)
        note = f"{math.floor(done / len(found))} rounds done before" if done else ""
        task = progress.add_task("measuring, visits", total=rounds * len(found), completed=done, note=note)
        try:
            for number in visits:
                progress.update(task, advance=1, note=f"round {number + 1} of {rounds}")
        except KeyboardInterrupt:
            told = f"{len(journal.visits)} of {rounds * len(found)} visits"
            raise UserError(f"stopped after {told}; the same command goes on from there ({journal_file})") from None
        except OSError as error:
            raise UserError(f"cannot write {journal_file}: {error.strerror}; free space and go on") from error


def fitting_networks(space: SearchSpace, num: int, seed: int) -> list[Arch]:
    """Return random networks to fit the overhead on, with the extremes of the space."""
    ends = list(dict.fromkeys([space.smallest(), space.largest()]))[:num]
    return ends + draw_networks(space, num - len(ends), seed, ends)


def write_table(table: LatencyTable, path: Path) -> None:
    """Write a table as JSON with a line for each block and each network, all or nothing."""
    value = table.to_dict()
    lists = {name: value.pop(name) for name in ("networks", "blocks")}
    text = json.dumps(value, indent=2, allow_nan=False).removesuffix("\n}")
    for name, rows in lists.items():
        lines = ",\n".join(f"    {json.dumps(row, allow_nan=False)}" for row in rows)
        text += f',\n  "{name}": [\n{lines}\n  ]'
    files.write_text(path, text + "\n}\n")


def check_new(path: Path) -> None:
    """Raise UserError if ``path`` exists."""
    if path.exists():
        raise UserError(f"{path} exists already; remove it or choose another --output")
