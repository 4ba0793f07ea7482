"""Choice of the device to compute on, and an error for running out of its memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from supernet.arch import Arch
from supernet.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``; "auto" is a GPU if there is one.

    Raises:
        UserError: PyTorch does not know the name, or there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    error = UserError(f"device {name!r} is not available; choose auto, cpu or a GPU that torch finds")
    try:
        device = torch.empty(0, device=torch.device(name)).device
    except (RuntimeError, AssertionError) as cause:
        raise error from cause
    if device.type == "meta":  # always exists, but computes nothing
        raise error
    return device


@contextmanager
def explain_out_of_memory(arch: Arch, batch_size: int, resolution: int) -> Iterator[None]:
    """Turn running out of memory while training ``arch`` into a UserError with its remedies."""
    try:
        yield
    except RuntimeError as error:  # includes torch.OutOfMemoryError; the CPU allocator has no class for it
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise UserError(
            f"out of memory with {batch_size} images of {resolution} px in subnet {arch.describe()}; lower "
            "batch_size, or the largest resolution or widths of the space"
        ) from error
