"""What a command does when whoever reads its output has enough of it (``| head``)."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exit_on_broken_pipe() -> Iterator[None]:
    """End the process with status 1 and without a word once nobody reads standard output any more."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # what is still kept back would be missed after the end, with a traceback
    except BrokenPipeError:
        if not _is_closed():
            raise  # another pipe's, which is none of the user's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _is_closed() -> bool:
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in watched.poll(0))
