"""Measures latencies on this device: ``python measure.py`` beside the files of its kit; ``--help`` lists the options.

It needs Python 3.10 or newer, numpy and the library that the kit is for (onnxruntime, ncnn, MNN or ai-edge-litert), and
nothing else of the project that made the kit. It may be stopped at any time: the same command continues from there.
Copy the file it writes back to that project.
"""

import argparse
import importlib
import json
import os
import platform
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

FORMAT = "litepose-supernet latency measurements"
VERSION = 1
WARM_UP = 2
LEAST_RUNS, MOST_RUNS = 5, 20
VISIT_SECONDS = 0.02
"""Target duration of all runs of one visit; slow workloads have the least number of runs."""
DECIMALS = 5
"""Of milliseconds in files; what is shorter than the last of them counts as one, because a latency is above 0."""
BOARD = Path("/proc/device-tree/model")
"""Where Linux names a board."""

Run = Callable[[], object]


class JournalError(ValueError):
    """A file of measurements cannot be used; the message is one sentence."""


class Journal:
    """A file of measurements that grows by one line per visit, so that an interruption loses at most one visit.

    The first line is the header: what is measured, on which device and with which settings. Every other line is a
    visit: the round, the subject (the name of a workload) and the milliseconds of each run.

    Args:
        path: The file; if it exists, it must have the same header, and is continued.
        header: Plain values.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.visits: list[dict[str, Any]] = []
        self._file = path.open("a", encoding="utf-8")
        try:
            _lock(self._file)
        except BlockingIOError:
            self._file.close()
            raise JournalError(f"another process is writing {path}; wait for it or choose another file") from None
        try:
            self._continue(path, header)
        except JournalError:
            self._file.close()
            raise

    def _continue(self, path: Path, header: dict[str, Any]) -> None:
        """Read what the file holds already; begin one that is empty or was interrupted in its first line."""
        content = path.read_bytes()
        if _line(header).encode().startswith(content):
            self._file.truncate(0)
            self._write(header)
            return
        recorded, self.visits = parse_journal(content, path)
        for field in {**recorded, **header}:
            _compare(path, field, recorded.get(field), header.get(field))
        if not all(type(visit.get("round")) is int and type(visit.get("subject")) is str for visit in self.visits):
            raise JournalError(f"{path} holds a line that is no visit; remove that file and measure again")
        self._file.truncate(content.rfind(b"\n") + 1)  # without an incomplete last line, which an interruption left

    def add(self, number: int, subject: str, milliseconds: list[float]) -> None:
        """Append one visit of a round."""
        visit = {"round": number, "subject": subject, "ms": [rounded(value) for value in milliseconds]}
        self._write(visit)
        self.visits.append(visit)

    def close(self) -> None:
        """Flush everything to the disk and close the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(_line(value))
        self._file.flush()


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, allow_nan=False) + "\n"


def parse_journal(content: bytes, path: Path | str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header and the visits of a file of measurements, without an incomplete last line.

    Args:
        content: Of the file.
        path: Of the file, for messages.

    Raises:
        JournalError: A line is malformed.
    """
    values = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise JournalError(f"line {number} of {path} is no JSON object; restore the file or measure again")
        values.append(value)
    if not values or values[0].get("format") != FORMAT:
        raise JournalError(f"{path} does not begin with the format {FORMAT!r}; give a file that a build or kit wrote")
    return values[0], values[1:]


def rounded(milliseconds: float) -> float:
    """Return a latency as files hold it."""
    return max(10.0**-DECIMALS, round(milliseconds, DECIMALS))


def time_runs(run: Run, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Return the milliseconds of each of several runs, after warm-up runs."""
    for _ in range(WARM_UP):
        start = clock()
        run()
        last = clock() - start
    num_runs = min(MOST_RUNS, max(LEAST_RUNS, int(VISIT_SECONDS / max(last, 1e-6))))
    milliseconds = []
    for _ in range(num_runs):
        start = clock()
        run()
        milliseconds.append(1e3 * (clock() - start))
    return milliseconds


def measure(
    journal: Journal,
    subjects: Sequence[str],
    open_subject: Callable[[str], Run],
    rounds: int,
    minutes: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[int]:
    """Visit every subject once per round, in a different order each round, and yield the round after each visit.

    The changing order spreads a disturbance over all subjects instead of all visits of one. Subjects that differ only
    in their size are visited in sequence, because opening their shared graph takes longer than running it.

    Args:
        journal: Its visits are not repeated.
        subjects: Names of workloads.
        open_subject: Returns a function that runs a subject once.
        rounds: Maximum number of rounds.
        minutes: Time after which only the first round is completed.
        clock: Returns seconds.
    """
    start = clock()
    done: dict[int, set[str]] = defaultdict(set)
    for visit in journal.visits:
        done[visit["round"]].add(visit["subject"])
    for number in range(rounds):
        groups: dict[str, list[str]] = defaultdict(list)
        for subject in subjects:
            groups[subject.rpartition(" ")[0] or subject].append(subject)
        order = list(groups)
        random.Random(number).shuffle(order)
        for subject in (subject for group in order for subject in groups[group]):
            if subject in done[number]:
                continue
            if number > 0 and clock() - start > 60 * minutes:
                return
            journal.add(number, subject, time_runs(open_subject(subject), clock))
            yield number


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure by the options of the command line and return the exit status."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Measure the graphs of this kit and write the latencies down.")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("measurements.jsonl"))
    parser.add_argument("--threads", metavar="N", type=int, default=num_cores(), help="(default: all cores)")
    parser.add_argument("--rounds", metavar="N", type=int, default=30, help="visits of each graph (default: 30)")
    parser.add_argument(
        "--minutes", metavar="N", type=float, default=15.0, help="after that, only the first round is completed"
    )
    parser.add_argument("--provider", default="CPUExecutionProvider", help="of onnxruntime only (default: %(default)s)")
    parser.add_argument(
        "--device", metavar="NAME", help="of this device, if the name that the system reports is not clear"
    )
    options = parser.parse_args(arguments)
    try:
        return _measure_kit(here, options)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command continues from here", file=sys.stderr)
        return 1


def _measure_kit(kit: Path, options: argparse.Namespace) -> int:
    if options.threads < 1 or options.rounds < 1:
        raise JournalError("--threads and --rounds must be at least 1")
    manifest = json.loads((kit / "manifest.json").read_text(encoding="utf-8"))
    kinds = importlib.import_module("libraries").LIBRARIES  # beside this file in a kit
    library = kinds[manifest["runtime"]](options.threads, options.provider)
    settings = {
        "runtime": manifest["runtime"],
        "runtime_version": library.version,
        "device": (options.device or _processor()) + library.place,
        "system": platform.platform(),
        "threads": options.threads,
        "precision": "f32",
        "batch": manifest["batch"],
    }
    graphs: dict[str, Any] = manifest["graphs"]
    journal = Journal(options.output, {**manifest["header"], "settings": settings})

    last: dict[str, Any] = {}

    def open_subject(subject: str) -> Run:
        file = graphs[subject]["file"]
        if file not in last:
            last.clear()
            last[file] = library.open(kit / "graphs" / file)
        run: Run = library.runner(last[file], graphs[subject]["inputs"])
        return run

    num_visits, started = len(journal.visits), time.perf_counter()
    for number in measure(journal, list(graphs), open_subject, options.rounds, options.minutes):
        num_visits += 1
        if num_visits % 25 == 0:
            seconds = time.perf_counter() - started
            total = options.rounds * len(graphs)
            message = f"\rround {number + 1}/{options.rounds}, {num_visits}/{total} visits, {seconds:.0f} s"
            print(message, end="", file=sys.stderr, flush=True)
    journal.close()
    device = settings["device"]
    print(f"\n{options.output}: {num_visits} visits of {len(graphs)} graphs on {device}", file=sys.stderr)
    return 0


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """Return what ``supernet.compute.machine.processor`` does."""
    with suppress(OSError):
        return BOARD.read_text(encoding="utf-8").rstrip("\0\n")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _compare(path: Path, field: str, recorded: Any, expected: Any) -> None:
    """Raise JournalError naming the first field that differs between the headers of ``path`` and of this run."""
    if isinstance(recorded, dict) and isinstance(expected, dict):
        for name in {**recorded, **expected}:
            _compare(path, f"{field}.{name}", recorded.get(name), expected.get(name))
    elif recorded != expected:
        difference = f"{field} is {str(recorded)[:60]} in {path}, but {str(expected)[:60]} now"
        raise JournalError(f"{difference}; remove that file or choose another")


def _lock(file: Any) -> None:
    """Lock ``file`` against other writers; do nothing on systems, and network file systems, without such locks."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
