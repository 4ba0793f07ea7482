"""Choice of the device to compute on."""

import torch

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
