"""What figures were measured on, and how their spread is told."""

import os
import platform
from pathlib import Path

import numpy as np
import torch


def machine() -> dict[str, str | int]:
    """The processor's name, the number of cores this process may use, and the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processor = names[0] if names else platform.processor() or platform.machine()
    return {"processor": processor, "cores": cores, "system": platform.platform()}


def versions() -> dict[str, str]:
    """The versions that decide what a run computes and how fast."""
    import cv2

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # of a class of its own, which no checkpoint may hold
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
