"""Fuzz the readers of files: ``python -m scripts.fuzz TARGET --seconds N``.

Valid files are changed at random and read. atheris, if installed (``pip install 'litepose-supernet[fuzz]'``), searches
for changes that reach new code; otherwise hypothesis draws the changes. The targets are those of
``tests/reliability/test_fuzzing.py``. A file that causes a failure is saved; ``python -m scripts.fuzz TARGET --file
FILE`` reads it again.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

if TYPE_CHECKING:
    from tests.reliability.file_mutations import Choose, Target

MAX_BYTES = 2**33
"""Limit on the address space; a file that needs more to be read or refused is a finding."""
MAX_SECONDS = 30
"""Time limit for one file."""
_RUNS_PER_ROUND = 50
"""Runs of a hypothesis test; time is checked between rounds, as hypothesis rejects a test that stops drawing."""


def main() -> None:
    """Fuzz one target, or run it once on a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", metavar="TARGET", help="the reader; 'list' prints all")
    parser.add_argument("--seconds", metavar="N", type=int, default=60, help="duration (default: %(default)s)")
    parser.add_argument("--engine", choices=("auto", "atheris", "hypothesis"), default="auto")
    parser.add_argument("--file", metavar="FILE", type=Path, help="only read this file")
    parser.add_argument(
        "--findings",
        metavar="FOLDER",
        type=Path,
        default=Path("runs/fuzz"),
        help="folder for files that cause failures (default: %(default)s)",
    )
    options = parser.parse_args()
    has_atheris = importlib.util.find_spec("atheris") is not None
    if options.engine == "atheris" and not has_atheris:
        parser.error("atheris is not installed; run pip install 'litepose-supernet[fuzz]'")
    chosen = options.engine if options.engine != "auto" else "atheris" if has_atheris else "hypothesis"
    with _instrumented(chosen == "atheris" and options.file is None):
        from tests.reliability import fuzz_targets
    if options.target == "list":
        print("\n".join(fuzz_targets.TARGETS))
        return
    if options.target not in fuzz_targets.TARGETS:
        parser.error(f"there is no target {options.target!r}; choose among {', '.join(fuzz_targets.TARGETS)}")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    session = _Session(fuzz_targets.TARGETS[options.target], options.findings / options.target)
    if options.file is not None:
        if not options.file.is_file():
            parser.error(f"--file must be a file, got {options.file}")
        read = session.read(options.file.read_bytes())
        print(f"{options.file} was {'read' if read else 'refused in one sentence'}")
    elif chosen == "atheris":
        _with_atheris(session, options.seconds)
    else:
        _with_hypothesis(session, options.seconds)


class _Session:
    """A target, its valid file, and statistics of its changed versions."""

    def __init__(self, target: "Target", findings: Path) -> None:
        from tests.reliability import file_mutations

        self._mutations, self.target, self.findings = file_mutations, target, findings
        self._place = tempfile.TemporaryDirectory()
        self._folder = Path(self._place.name)
        self._valid = target.valid(self._folder)
        self._content = self._valid if isinstance(self._valid, bytes) else target.encode(self._valid)
        self.num_runs = self.num_read = 0
        self.slowest = 0.0
        assert self.read(self._content), "the valid file is refused"

    def fuzz_once(self, choose: "Choose") -> None:
        """Change the valid file and read it; save a file that causes a failure, and raise the failure."""
        content = self._content
        if isinstance(self._valid, bytes) or choose(4) == 0:
            content = self._mutations.mutated_bytes(content, choose)
        else:
            value = self._mutations.mutated(self._valid, choose)
            try:
                content = self.target.encode(value)
            except (ValueError, TypeError, OverflowError, RecursionError, AttributeError):
                return  # the format cannot represent this value
        try:
            self.read(content)
        except BaseException:
            self.findings.mkdir(parents=True, exist_ok=True)
            path = self.findings / f"{os.getpid()}_{self.num_runs}"
            path.write_bytes(content)
            print(f"finding: {path}", file=sys.stderr)
            raise

    def read(self, content: bytes) -> bool:
        """Let the target read ``content``; return whether it was accepted."""
        start = time.perf_counter()
        is_read = self._mutations.run(self.target, self._folder, content)
        self.slowest = max(self.slowest, time.perf_counter() - start)
        self.num_runs += 1
        self.num_read += is_read
        return is_read

    def summary(self) -> str:
        """Return the statistics as one line of JSON."""
        figures = {"runs": self.num_runs, "read": self.num_read, "slowest_seconds": round(self.slowest, 3)}
        return json.dumps(figures)


@contextlib.contextmanager
def _instrumented(wanted: bool) -> Iterator[None]:
    """Instrument imports of this project for atheris' coverage, if ``wanted``."""
    if not wanted:
        yield
        return
    import atheris

    with atheris.instrument_imports(include=["supernet", "search", "subnet_export", "json", "zipfile", "yaml"]):
        yield


def _with_atheris(session: _Session, seconds: int) -> None:
    import atheris

    def once(data: bytes) -> None:
        provider: Any = atheris.FuzzedDataProvider(data)
        session.fuzz_once(lambda n: provider.ConsumeIntInRange(0, n - 1))

    session.findings.mkdir(parents=True, exist_ok=True)
    flags = [f"-max_total_time={seconds}", f"-timeout={MAX_SECONDS}", "-rss_limit_mb=0", "-print_final_stats=1"]
    flags.append(f"-artifact_prefix={session.findings}/")
    atheris.Setup([sys.argv[0], *flags], once)
    atheris.Fuzz()  # ends the process and prints the number of runs


def _with_hypothesis(session: _Session, seconds: int) -> None:
    from hypothesis import HealthCheck, given, seed, settings
    from hypothesis import strategies as st

    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:

        @seed(number)
        @settings(
            max_examples=_RUNS_PER_ROUND,
            deadline=MAX_SECONDS * 1000,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def once(data: st.DataObject) -> None:
            session.fuzz_once(lambda n: data.draw(st.integers(0, n - 1)))

        once()
        number += 1
    print(session.summary())


if __name__ == "__main__":
    main()
