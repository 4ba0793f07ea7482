"""Choice of the device to compute on, and an error for running out of its memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from supernet.compute.machine import processor
from supernet.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``; "auto" is an NVIDIA GPU if there is one, and else the CPU.

    An NVIDIA GPU becomes the current one of the process: where no device is named, as by memory for copies, events and
    recordings, PyTorch would use the first GPU, whose memory may be full.

    Raises:
        UserError: PyTorch does not know the name, or there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    error = UserError(f"device {name!r} is not available; choose auto, cpu or a GPU that torch finds")
    try:
        device = torch.empty(0, device=torch.device(name)).device
    except (RuntimeError, AssertionError, ImportError, TypeError) as cause:  # some names need other modules
        raise error from cause
    if device.type == "meta":  # always exists, but computes nothing
        raise error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or that of the processor, with the kind of a device that torch has no name for."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor() if device.type == "cpu" else f"{processor()} ({device.type})"


def synchronise(device: torch.device) -> None:
    """Wait until ``device`` has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of a device in bytes: what is ``free``, and its ``total``."""

    free: int
    total: int


def device_memory(device: torch.device) -> DeviceMemory | None:
    """Return the memory of ``device``; None if it is unknown."""
    if device.type == "cuda":
        return DeviceMemory(*torch.cuda.mem_get_info(device))
    if device.type == "mps":
        total = torch.mps.recommended_max_memory()
        return DeviceMemory(total - torch.mps.driver_allocated_memory(), total)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    if not {"MemAvailable", "MemTotal"} <= kib.keys():
        return None
    return DeviceMemory(2**10 * kib["MemAvailable"], 2**10 * kib["MemTotal"])


@contextmanager
def explain_out_of_memory(doing: str, remedy: str) -> Iterator[None]:
    """Turn running out of memory into a UserError: "out of memory ``doing``; ``remedy``"."""
    try:
        yield
    except RuntimeError as error:  # includes torch.OutOfMemoryError; the CPU allocator has no class for it
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise UserError(f"out of memory {doing}; {remedy}") from error
