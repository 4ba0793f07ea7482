"""What each command does, from its options to what it prints."""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from search.lut import show
from search.lut.build import build, check_new, fitting_networks, write_table
from search.lut.kit import write_kit
from search.lut.merge import merge
from search.lut.runtimes import Runtime, open_engine
from search.lut.verify import report, verify
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import load_supernet
from supernet.cli.console import CONSOLE, progress_bar
from supernet.compute.device import pick_device
from supernet.costs.latency_blocks import blocks_of_space
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from supernet.io import files
from supernet.space import SearchSpace

BUSY = 0.3
"""Load average from which on a measurement is told to be disturbed."""


def run_build(options: argparse.Namespace) -> None:
    """Measure here."""
    began, space, num_keypoints = time.perf_counter(), *_measured_space(options)
    device = pick_device(options.device) if options.runtime == "torch" else torch.device("cpu")
    threads = options.threads or torch.get_num_threads()
    engine = open_engine(options.runtime, options.precision, threads, options.batch, num_keypoints, device)
    name = f"{space.name}-{options.runtime}-{options.precision}-{threads}threads.json"
    output = options.output or Path(options.runs) / "lut" / name
    blocks = len(blocks_of_space(space, num_keypoints))
    _tell(f"{engine.settings.describe()}: {blocks} blocks of space {space.name}, {options.networks} networks; {output}")
    _warn_if_busy()
    networks = fitting_networks(space, options.networks, options.seed)
    table = build(engine, space, num_keypoints, networks, output, options.rounds, options.minutes)
    CONSOLE.print(show.overview(table))
    _tell(f"{output}, after {time.perf_counter() - began:.0f} s; python -m search.lut verify {output} tests it")


def run_verify(options: argparse.Namespace) -> None:
    """Compare a table with networks measured here."""
    output = options.output or options.table.with_suffix(".verified.json")
    table = LatencyTable.load(options.table)
    _warn_if_busy()
    found = verify(table, _engine_of(table), options.networks, options.rounds, options.seed)
    files.write_json(output, found)
    CONSOLE.print(report(found))
    _tell(f"{table.settings.describe()}; {output}")


def run_show(options: argparse.Namespace) -> None:
    """Print a table."""
    table = LatencyTable.load(options.table)
    CONSOLE.print(show.overview(table))
    if options.arch:
        CONSOLE.print("", show.parts(table, [(path, Arch.load(path)) for path in options.arch]))


def run_merge(options: argparse.Namespace) -> None:
    """Bring measurements in."""
    check_new(options.output)
    table = merge(options.measurements)
    write_table(table, options.output)
    CONSOLE.print(show.overview(table))
    _tell(str(options.output))


def run_kit(options: argparse.Namespace) -> None:
    """Write a kit."""
    check_new(options.output)
    space, num_keypoints = _measured_space(options)
    networks = fitting_networks(space, options.networks, options.seed)
    total = 1 + len(networks) + len(blocks_of_space(space, num_keypoints))
    with progress_bar() as progress:
        task = progress.add_task("writing graphs", total=total, note=space.name)
        write_kit(options.output, space, num_keypoints, networks, options.batch, lambda: progress.advance(task))
    megabytes = options.output.stat().st_size / 1e6
    _tell(f"{options.output}: {total} blocks and networks, {megabytes:.1f} MB; its README.txt tells how to use it")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "build": run_build,
    "verify": run_verify,
    "show": run_show,
    "merge": run_merge,
    "kit": run_kit,
}


def _measured_space(options: argparse.Namespace) -> tuple[SearchSpace, int]:
    """Return the space and the number of keypoints that the options ask for."""
    if options.supernet is None:
        space, num_keypoints = SearchSpace.load(options.space or "nano"), options.num_keypoints or 17
    elif options.space or options.num_keypoints:
        raise UserError("--supernet brings its own space and keypoints; leave out --space and --num-keypoints")
    else:
        trained = load_supernet(options.supernet)
        space, num_keypoints = trained.supernet.space, trained.keypoints.num
    if options.resolutions is None:
        return space, num_keypoints
    known = {str(resolution): resolution for resolution in space.resolutions}
    wanted = {name.strip() for name in options.resolutions.split(",")}
    if wrong := sorted(wanted - set(known)):
        raise UserError(f"{wrong[0]!r} is no resolution of space {space.name}; choose among {', '.join(known)}")
    return replace(space, resolutions=tuple(sorted(known[name] for name in wanted))), num_keypoints


def _engine_of(table: LatencyTable) -> Runtime:
    """Open what a table was measured with, on the GPU of its name if that is here."""
    told = table.settings
    is_gpu = torch.cuda.is_available() and told.device == torch.cuda.get_device_name()
    device = torch.device("cuda" if is_gpu else "cpu")
    return open_engine(told.runtime, told.precision, told.threads, told.batch, table.num_keypoints, device)


def _warn_if_busy() -> None:
    load = os.getloadavg()[0]
    if load > BUSY:
        _tell(f"other work takes {load:.1f} cores, so latencies will be too high; better measure on a quiet machine")


def _tell(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
