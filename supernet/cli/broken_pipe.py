"""Ends a command quietly when standard output is closed early (for example by ``| head``)."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exit_on_broken_pipe() -> Iterator[None]:
    """End the process with status 1 and no message when standard output is a closed pipe."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # the interpreter would flush after this handler, and fail with a traceback
    except BrokenPipeError:
        if not _is_closed():
            raise  # the broken pipe is not standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _is_closed() -> bool:
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in watched.poll(0))
