"""Change valid files at random and have them read, for as long as asked: ``python -m scripts.fuzz TARGET --seconds N``.

Where atheris is installed (``pip install 'litepose-supernet[fuzz]'``) it looks for changes that reach new code; else
hypothesis draws them. The targets are those of ``tests/reliability/test_fuzzing.py``. What goes wrong is written to a
file that ``python -m scripts.fuzz TARGET --file FILE`` reads again.
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

MOST_BYTES = 2**33
"""Of address space; a file that needs more to be read or refused is a finding."""
MOST_SECONDS = 30
_RUNS_A_ROUND = 50
"""Of hypothesis, which finishes a round that it began: a test that draws no more at some time is an error to it."""


def main() -> None:
    """Fuzz one target, or run it once on a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", metavar="TARGET", help="which reader; 'list' names them")
    parser.add_argument("--seconds", metavar="N", type=int, default=60, help="how long (default: %(default)s)")
    parser.add_argument("--engine", choices=("auto", "atheris", "hypothesis"), default="auto")
    parser.add_argument("--file", metavar="FILE", type=Path, help="only read this file")
    parser.add_argument(
        "--findings", metavar="FOLDER", type=Path, default=Path("runs/fuzz"), help="(default: %(default)s)"
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
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    session = _Session(fuzz_targets.TARGETS[options.target], options.findings / options.target)
    if options.file is not None:
        read = session.read(options.file.read_bytes())
        print(f"{options.file} was {'read' if read else 'refused in one sentence'}")
    elif chosen == "atheris":
        _with_atheris(session, options.seconds)
    else:
        _with_hypothesis(session, options.seconds)


class _Session:
    """One target with a valid file, and what came of changing it."""

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

    def one(self, choose: "Choose") -> None:
        """Change the file once and read it; what goes wrong is kept and raised."""
        content = self._content
        if isinstance(self._valid, bytes) or choose(4) == 0:
            content = self._mutations.mutated_bytes(content, choose)
        else:
            value = self._mutations.mutated(self._valid, choose)
            try:
                content = self.target.encode(value)
            except (ValueError, TypeError, OverflowError, RecursionError, AttributeError):
                return  # no such file can be
        try:
            self.read(content)
        except BaseException:
            self.findings.mkdir(parents=True, exist_ok=True)
            path = self.findings / f"{os.getpid()}_{self.num_runs}"
            path.write_bytes(content)
            print(f"finding: {path}", file=sys.stderr)
            raise

    def read(self, content: bytes) -> bool:
        """Let the target read ``content``; whether it could."""
        began = time.perf_counter()
        found = self._mutations.run(self.target, self._folder, content)
        self.slowest = max(self.slowest, time.perf_counter() - began)
        self.num_runs += 1
        self.num_read += found
        return found

    def summary(self) -> str:
        """Return what was done, one line of JSON."""
        figures = {"runs": self.num_runs, "read": self.num_read, "slowest_seconds": round(self.slowest, 3)}
        return json.dumps(figures)


@contextlib.contextmanager
def _instrumented(wanted: bool) -> Iterator[None]:
    """Let atheris see which code of this project runs."""
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
        session.one(lambda n: provider.ConsumeIntInRange(0, n - 1))

    session.findings.mkdir(parents=True, exist_ok=True)
    flags = [f"-max_total_time={seconds}", f"-timeout={MOST_SECONDS}", "-rss_limit_mb=0", "-print_final_stats=1"]
    flags.append(f"-artifact_prefix={session.findings}/")
    atheris.Setup([sys.argv[0], *flags], once)
    atheris.Fuzz()  # ends the process, with the number of runs


def _with_hypothesis(session: _Session, seconds: int) -> None:
    from hypothesis import HealthCheck, given, seed, settings
    from hypothesis import strategies as st

    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:

        @seed(number)
        @settings(
            max_examples=_RUNS_A_ROUND,
            deadline=MOST_SECONDS * 1000,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def once(data: st.DataObject) -> None:
            session.one(lambda n: data.draw(st.integers(0, n - 1)))

        once()
        number += 1
    print(session.summary())


if __name__ == "__main__":
    main()
