"""Choice of the device to compute on, and what is told when its memory is used up."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from supernet.arch import Arch
from supernet.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``; "auto" takes a GPU if there is one.

    Raises:
        UserError: A name that PyTorch does not know, or a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fault = UserError(f"device {name!r} is not available here; choose auto, cpu or a GPU that torch finds")
    try:
        device = torch.empty(0, device=torch.device(name)).device
    except (RuntimeError, AssertionError) as error:
        raise fault from error
    if device.type == "meta":  # always there, but computes nothing
        raise fault
    return device


@contextmanager
def explain_out_of_memory(arch: Arch, batch_size: int, resolution: int) -> Iterator[None]:
    """Turn running out of memory while training ``arch`` into a UserError that says what was too much."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the processor's allocator has no class of its own
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise UserError(
            f"out of memory with {batch_size} images of {resolution} px in subnet {arch.describe()}; lower "
            "batch_size, the space's largest resolution or its widths"
        ) from error
