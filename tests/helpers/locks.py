"""A lock that another process holds."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


@contextmanager
def held_by_another_process(lock: AbstractContextManager[object]) -> Iterator[int]:
    """Take ``lock`` in a fork of this process, yield its process id, and kill it (-9) at the end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with lock:
                os.write(writer, b"locked")
                time.sleep(300)
        finally:
            os._exit(1)
    try:
        assert os.read(reader, 6) == b"locked"
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
