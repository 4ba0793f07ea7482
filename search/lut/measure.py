"""Measure latencies on this device: ``python measure.py`` beside the files of its kit; ``--help`` lists the options.

It needs Python 3.10 or newer, onnxruntime and numpy, and nothing else of the project that made the kit. It may be
stopped at any time: the same command goes on from there. What it writes goes back to where the kit came from.
"""

import argparse
import json
import os
import platform
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

FORMAT = "litepose-supernet latency measurements"
VERSION = 1
WARM_UP = 2
LEAST_RUNS, MOST_RUNS = 5, 20
VISIT_SECONDS = 0.02
"""Time that the runs of one visit should take together; slow subjects have the least number of runs."""

Run = Callable[[], object]


class JournalError(ValueError):
    """A file of measurements that cannot be used, in one sentence."""


class Journal:
    """A file of measurements that grows by one line a visit, so that an interruption costs at most one visit.

    The first line is the header: what is measured, on what and with what. Every other is one visit: the round, the
    subject and the milliseconds of each run.

    Args:
        path: Of the file; if it exists, it must have the same header, and is continued.
        header: Plain values.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.visits: list[dict[str, Any]] = []
        if path.exists() and path.stat().st_size:
            _cut_torn_line(path)
            found, self.visits = read_journal(path)
            for field in {**found, **header}:
                _compare(path, field, found.get(field), header.get(field))
            if not all(type(each.get("round")) is int and type(each.get("subject")) is str for each in self.visits):
                raise JournalError(f"{path} holds a line that is no visit; remove that file and measure again")
        self._file = path.open("a", encoding="utf-8")
        try:
            _lock(self._file)
        except OSError:
            self._file.close()
            raise JournalError(f"another process is writing {path}; wait for it or choose another file") from None
        if path.stat().st_size == 0:
            self._write(header)

    def add(self, number: int, subject: str, milliseconds: list[float]) -> None:
        """Write down one visit, of a round."""
        visit = {"round": number, "subject": subject, "ms": [round(each, 5) for each in milliseconds]}
        self._write(visit)
        self.visits.append(visit)

    def close(self) -> None:
        """Make sure that everything is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value, allow_nan=False) + "\n")
        self._file.flush()


def read_journal(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header and the visits of a file of measurements; a line that was cut off at its end is left out.

    Raises:
        JournalError: The file cannot be read, or a line is not what it must be.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}; check the path") from error
    values = []
    for number, line in enumerate(lines, start=1):
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


def time_runs(run: Run, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Return the milliseconds of each of several runs, after runs to warm up."""
    for _ in range(WARM_UP):
        start = clock()
        run()
        last = clock() - start
    num_runs = min(MOST_RUNS, max(LEAST_RUNS, int(VISIT_SECONDS / max(last, 1e-6))))
    found = []
    for _ in range(num_runs):
        start = clock()
        run()
        found.append(1e3 * (clock() - start))
    return found


def measure(
    journal: Journal,
    subjects: Sequence[str],
    open_subject: Callable[[str], Run],
    rounds: int,
    minutes: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[int]:
    """Visit every subject once a round, in an order of its own each round, and yield the round after each visit.

    So that a disturbance falls on all alike, and not on all visits of one. Subjects that differ in nothing but their
    size follow each other, since opening their graph takes longer than running it.

    Args:
        journal: Visits that it has already are not repeated.
        subjects: Names.
        open_subject: Returns what runs a subject once.
        rounds: The most there are.
        minutes: After that, only the first round is still ended.
        clock: Seconds.
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
    """Measure as the command line asks; returns the exit status."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Measure the graphs of this kit and write the latencies down.")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("measurements.jsonl"))
    parser.add_argument("--threads", metavar="N", type=int, default=os.cpu_count() or 1, help="(default: all cores)")
    parser.add_argument("--rounds", metavar="N", type=int, default=3, help="visits of each graph (default: 3)")
    parser.add_argument(
        "--minutes", metavar="N", type=float, default=15.0, help="after that, only the first round is ended"
    )
    parser.add_argument("--provider", default="CPUExecutionProvider", help="of onnxruntime (default: %(default)s)")
    parser.add_argument("--device", metavar="NAME", help="of this device, if the system does not tell it well")
    options = parser.parse_args(arguments)
    try:
        return _measure_kit(here, options)
    except (JournalError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 1


def _measure_kit(kit: Path, options: argparse.Namespace) -> int:
    import onnxruntime

    if options.threads < 1 or options.rounds < 1:
        raise JournalError("--threads and --rounds must be at least 1")
    if options.provider not in onnxruntime.get_available_providers():
        available = ", ".join(onnxruntime.get_available_providers())
        raise JournalError(f"there is no provider {options.provider} here; choose among {available}")
    manifest = json.loads((kit / "manifest.json").read_text(encoding="utf-8"))
    device = options.device or _processor()
    if options.provider != "CPUExecutionProvider":
        device += f" ({options.provider})"
    settings = {
        "runtime": "onnxruntime",
        "runtime_version": onnxruntime.__version__,
        "device": device,
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
            session_options = onnxruntime.SessionOptions()
            session_options.intra_op_num_threads = options.threads
            session_options.log_severity_level = 3
            last.clear()
            path = str(kit / "graphs" / file)
            last[file] = onnxruntime.InferenceSession(path, session_options, providers=[options.provider])
        return runner(last[file], graphs[subject]["inputs"])

    num_visits, started = len(journal.visits), time.perf_counter()
    for number in measure(journal, list(graphs), open_subject, options.rounds, options.minutes):
        num_visits += 1
        if num_visits % 25 == 0:
            seconds = time.perf_counter() - started
            total = options.rounds * len(graphs)
            told = f"\rround {number + 1}/{options.rounds}, {num_visits}/{total} visits, {seconds:.0f} s"
            print(told, end="", file=sys.stderr, flush=True)
    journal.close()
    print(f"\n{options.output}: {num_visits} visits of {len(graphs)} graphs on {device}", file=sys.stderr)
    return 0


def runner(session: Any, shapes: Sequence[Sequence[int]]) -> Run:
    """Return what runs an ONNX Runtime session once, on noise of the given shapes."""
    import numpy as np

    rng, feeds = np.random.default_rng(0), {}
    for each, shape in zip(session.get_inputs(), shapes, strict=True):
        is_image = "uint8" in each.type
        noise = rng.integers(0, 256, shape) if is_image else rng.standard_normal(shape)
        feeds[each.name] = noise.astype(np.uint8 if is_image else np.float32)
    return lambda: session.run(None, feeds)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Hardware")))
    return next(named, platform.processor() or platform.machine())


def _cut_torn_line(path: Path) -> None:
    """Remove a last line without an end, which an interruption left."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        with path.open("rb+") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _compare(path: Path, field: str, found: Any, wanted: Any) -> None:
    """Raise JournalError naming what differs between the headers of ``path`` and of this run."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in {**found, **wanted}:
            _compare(path, f"{field}.{name}", found.get(name), wanted.get(name))
    elif found != wanted:
        told = f"{field} is {str(found)[:60]} in {path}, but {str(wanted)[:60]} now"
        raise JournalError(f"{told}; remove that file or choose another")


def _lock(file: Any) -> None:
    """Let nobody else write ``file``; on systems without such locks, do nothing."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


if __name__ == "__main__":
    sys.exit(main())
