"""Describes the machine and the software that results were measured with."""

import os
import platform
from contextlib import suppress
from pathlib import Path


def machine() -> dict[str, str | int]:
    """Return the processor's name, the number of cores that this process may use, and the system."""
    return {"processor": processor(), "cores": num_cores(), "system": platform.platform()}


BOARD = Path("/proc/device-tree/model")
"""Where Linux names a board; the processors of 64-bit Arm boards have no name of their own."""


def processor() -> str:
    """Return the processor's name, or that of the board it is on where the system knows one."""
    with suppress(OSError):
        return BOARD.read_text(encoding="utf-8").rstrip("\0\n")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return the versions that decide what a run computes and how fast."""
    import cv2  # here, because `supernet.doctor` needs the names above even where packages are missing
    import numpy
    import torch

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # a subclass of str, which checkpoints refuse
        "numpy": numpy.__version__,
        "opencv": cv2.__version__,
    }
