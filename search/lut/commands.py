"""Runs the commands of ``python -m search.lut``."""

import argparse
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from search.lut import show
from search.lut.build import Effort, Progress, build
from search.lut.devices import benchncnn
from search.lut.devices.kit import KitContents, check_runtime, write_kit
from search.lut.devices.merge import merge
from search.lut.devices.transfer import LEAST_NETWORKS, transfer
from search.lut.runtimes import open_runtime, runtime_of
from search.lut.verify import verify
from search.lut.workloads import MeasurementPlan, fitting_networks
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import load_supernet
from supernet.cli.commands import spelled
from supernet.cli.console import CONSOLE, print_wide, progress_bar
from supernet.compute.device import pick_device
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from supernet.io import files
from supernet.io.new_folder import check_new
from supernet.io.schema import check_number
from supernet.pose.keypoints import MAX_KEYPOINTS
from supernet.space import SearchSpace

logger = logging.getLogger(__name__)

BUSY = 0.3
"""Load average above which measurements are disturbed."""

CHANGED = 0.05
"""Relative change of a machine's speed above which a verification says more about it than about the table."""


def run_build(options: argparse.Namespace) -> None:
    """Measure on this machine and write a table."""
    began, plan = time.perf_counter(), _plan(options)
    space, num_keypoints = plan.space, plan.num_keypoints
    is_on_cpu = options.runtime != "torch" and options.device == "auto"
    device = torch.device("cpu") if is_on_cpu else pick_device(options.device)
    threads = options.threads or torch.get_num_threads()
    runtime = open_runtime(options.runtime, options.precision, threads, options.batch, num_keypoints, device)
    name = f"{space.name}-{options.runtime}-{options.precision}-{threads}threads.json"
    output = options.output or Path(options.runs) / "lut" / name
    check_new(output)
    _print(f"{runtime.settings.describe()}: {_contents(plan)}; {output}")
    _warn_if_busy()
    with _shown_progress() as progress:
        table = build(runtime, plan, output, Effort(options.rounds, options.minutes), progress)
    CONSOLE.print(show.overview(table))
    test = f"python -m search.lut verify {shlex.quote(str(output))}"
    _print(f"{output}, after {time.perf_counter() - began:.0f} s; {test} tests it")


def run_verify(options: argparse.Namespace) -> None:
    """Compare a table's predictions with networks measured on this machine."""
    table = LatencyTable.load(options.table)
    output = options.output or options.table.with_suffix(".verified.json")
    (check_new if options.output else files.check_writable)(output)
    _warn_if_busy()
    with _shown_progress() as progress:
        effort = Effort(options.rounds, options.minutes)
        result = verify(table, runtime_of(table), options.networks, options.seed, effort, progress)
    files.write_json(output, result)
    CONSOLE.print(show.verification(result))
    if (change := result["machine_change"]) is not None and abs(change - 1) > CHANGED:
        logger.warning(
            "this machine takes %.2f times as long as when the table was built; verify it when the machine is as quiet "
            "as then, or build it again",
            change,
        )
    _print(f"{table.settings.describe()}; {output}")


def run_show(options: argparse.Namespace) -> None:
    """Print a table and its predictions for archs."""
    table = LatencyTable.load(options.table)
    CONSOLE.print(show.overview(table))
    if options.arch:
        CONSOLE.print()
        print_wide(show.predictions(table, [(path, Arch.load(path)) for path in options.arch]))


def run_merge(options: argparse.Namespace) -> None:
    """Make a table of measurements that a kit wrote."""
    check_new(options.output)
    table = merge(options.measurements)
    table.save(options.output)
    CONSOLE.print(show.overview(table))
    _print(str(options.output))


def run_kit(options: argparse.Namespace) -> None:
    """Write a kit."""
    check_new(options.output)
    check_runtime(options.runtime)
    plan = _plan(options)
    if options.only_networks and len(plan.networks) < LEAST_NETWORKS:
        raise UserError(
            f"a kit with --only-networks must have at least {LEAST_NETWORKS} networks, got {len(plan.networks)}; raise "
            "--networks or leave out --only-networks"
        )
    kit = KitContents(plan, options.runtime, options.batch, options.only_networks)
    with progress_bar() as bar:
        task = bar.add_task("writing graphs", total=len(kit.workloads()), note=plan.space.name)
        write_kit(options.output, kit, lambda: bar.advance(task))
    megabytes = options.output.stat().st_size / 1e6
    contents = f"{len(plan.networks)} networks" if options.only_networks else _contents(plan)
    _print(f"{options.output}: {contents} for {kit.runtime}, {megabytes:.1f} MB; its README.txt explains how to use it")


def run_benchncnn(options: argparse.Namespace) -> None:
    """Turn the output of ncnn's benchmark into measurements."""
    check_new(options.output)
    text = benchncnn.measurements(options.kit, options.outputs)
    files.write_text(options.output, text)
    _print(
        f"{options.output}: {text.count(chr(10)) - 1} visits; python -m search.lut merge makes a table of it, or "
        "python -m search.lut transfer if the kit holds only networks"
    )


def run_transfer(options: argparse.Namespace) -> None:
    """Move a table to a similar device."""
    check_new(options.output)
    results = options.output.with_suffix(".transferred.json")
    files.check_writable(results)
    source = LatencyTable.load(options.table)
    result = transfer(source, options.measurements)
    result.table.save(options.output)
    files.write_json(results, result.to_dict(source))
    CONSOLE.print(show.transferred(result))
    _print(f"{result.table.settings.describe()}; {options.output}, {results}")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "build": run_build,
    "verify": run_verify,
    "show": run_show,
    "merge": run_merge,
    "kit": run_kit,
    "transfer": run_transfer,
    "benchncnn": run_benchncnn,
}


def _plan(options: argparse.Namespace) -> MeasurementPlan:
    """Return what the options ask to measure."""
    space, num_keypoints = _measured_space(options)
    return MeasurementPlan(space, num_keypoints, fitting_networks(space, options.networks, options.seed))


def _measured_space(options: argparse.Namespace) -> tuple[SearchSpace, int]:
    """Return the space and the number of keypoints that the options name."""
    if options.supernet is None:
        space, num_keypoints = SearchSpace.load(options.space or "nano"), options.num_keypoints or 17
        check_number("--num-keypoints", num_keypoints, least=1, most=MAX_KEYPOINTS)  # as tables do, at the end
    elif options.space or options.num_keypoints:
        raise UserError("--supernet has its own space and keypoints; leave out --space and --num-keypoints")
    else:
        trained = load_supernet(options.supernet)
        space, num_keypoints = trained.supernet.space, trained.keypoints.num
    if options.resolutions is None:
        return space, num_keypoints
    known = {str(resolution): resolution for resolution in space.resolutions}
    chosen = {name.strip() for name in options.resolutions.split(",")}
    if unknown := sorted(chosen - set(known)):
        raise UserError(f"{unknown[0]!r} is not a resolution of space {space.name}; choose among {', '.join(known)}")
    return replace(space, resolutions=tuple(sorted(known[name] for name in chosen))), num_keypoints


def _contents(plan: MeasurementPlan) -> str:
    num_blocks = len(plan.workloads()) - 1 - len(plan.networks)
    return f"{num_blocks} blocks of space {plan.space.name}, {len(plan.networks)} networks"


@contextmanager
def _shown_progress() -> Iterator[Progress]:
    """Show a progress bar and yield the function that updates it."""
    with progress_bar() as bar:
        task = bar.add_task("measuring, visits", total=None, note="")
        yield lambda done, total, note: bar.update(task, completed=done, total=total, note=note)


def _warn_if_busy() -> None:
    load = os.getloadavg()[0]
    if load > BUSY:
        logger.warning(
            "%.1f cores were busy in the last minute; if other work goes on, latencies will be too high: measure on a "
            "quiet machine",
            load,
        )


def _print(text: str) -> None:
    CONSOLE.print(spelled(text), highlight=False, soft_wrap=True)
