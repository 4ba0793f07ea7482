"""Ends a command on Ctrl-C with one line and exit status 130. Imports nothing slow: it works from the start on."""

import atexit
import os
import signal
from collections.abc import Callable
from functools import wraps
from types import FrameType

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C has ended."""
_MESSAGE = b"error: stopped by Ctrl-C\n"
_IMPORTING = "<frozen importlib._bootstrap>"


class _Phase:
    """Whether the command of this process has begun its work."""

    works = False


_phase = _Phase()


def begin_work() -> None:
    """Call this before a command does anything that has to be cleaned up when Ctrl-C ends it."""
    _phase.works = True


def show_at_once(line: bytes) -> None:
    """Write a line to standard error from a signal handler, which may have interrupted a write of ``sys.stderr``."""
    os.write(2, line)


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Decorate the entry point of a command: Ctrl-C ends it in one line, at any time.

    Before :func:`begin_work` there is nothing to clean up, and the process ends at once. Afterwards it is a
    ``KeyboardInterrupt``; libraries may turn it into any other exception, which then means the same. A command that
    stops at a clean point instead (:mod:`supernet.cli.signals`) takes the signal over while it works.
    """

    @wraps(main)
    def run() -> None:
        is_interrupted = False

        def interrupt(_: int, frame: FrameType | None) -> None:
            nonlocal is_interrupted
            if not _phase.works or _is_importing_for(main, frame):
                show_at_once(_MESSAGE)
                os._exit(INTERRUPTED)
            is_interrupted = True
            raise KeyboardInterrupt

        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:  # ignored, as in a shell's background, or handled by a program
            return main()
        _phase.works = False
        signal.signal(signal.SIGINT, interrupt)
        try:
            main()
        except SystemExit:
            raise
        except BaseException as error:
            if not is_interrupted and not isinstance(error, KeyboardInterrupt):
                raise
            show_at_once(_MESSAGE)
            raise SystemExit(INTERRUPTED) from None
        finally:
            signal.signal(signal.SIGINT, signal.SIG_DFL if is_interrupted else before)
            # The work is done: while Python shuts down, which takes long with torch, the exit status stays as it is.
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)

    return run


def _is_importing_for(main: Callable[[], None], frame: FrameType | None) -> bool:
    """Whether ``frame`` is inside an import statement of the module of ``main``, which begins its work after them.

    A ``KeyboardInterrupt`` inside such an import may abort the process, or be taken for a missing module.
    """
    inside = None
    while frame is not None:
        if inside == _IMPORTING and frame.f_globals is main.__globals__:
            return True
        inside, frame = frame.f_code.co_filename, frame.f_back
    return False
