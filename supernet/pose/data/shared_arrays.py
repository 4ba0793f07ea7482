"""Arrays that all processes share, whichever way these were started.

A forked process shares the memory of its parent. To any other, objects are sent; large arrays in them go through shared
memory instead, if there is enough of it, so that a worker does not get its own copy.
"""

import os
from typing import Any

import numpy as np
import torch

_LEAST_BYTES = 2**16
"""Smaller arrays are sent: a segment of shared memory costs an open file."""
_MOST_OF_FREE = 0.5
"""Share of the free shared memory that the arrays of an object may take; workers send batches through the rest."""
_PLACE = "/dev/shm"


class SharesArrays:
    """Base of classes whose large arrays are moved to shared memory when an object is first sent to a process."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, with tensors in shared memory in place of large arrays."""
        if "_shared" not in self.__dict__:
            object.__setattr__(self, "_shared", self._share())
        state = dict(self.__dict__)
        tensors: dict[str, Any] = state.pop("_shared")
        return state | tensors

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the attributes, with arrays that see the memory of the tensors."""
        for name, value in state.items():
            object.__setattr__(self, name, value.numpy() if isinstance(value, torch.Tensor) else value)

    def _share(self) -> dict[str, torch.Tensor]:
        """Move large arrays to shared memory, where this object uses them, too."""
        arrays = {name: value for name, value in self.__dict__.items() if isinstance(value, np.ndarray)}
        large = {name: value for name, value in arrays.items() if value.nbytes >= _LEAST_BYTES}
        if not _has_room(sum(value.nbytes for value in large.values())):
            return {}
        tensors = {}
        for name, value in large.items():
            tensor = torch.from_numpy(np.require(value, requirements=["C", "W"]))
            tensors[name] = tensor.share_memory_()  # type: ignore[no-untyped-call]
            object.__setattr__(self, name, tensors[name].numpy())
        return tensors


def _has_room(num_bytes: int) -> bool:
    """Whether shared memory can take so much: a write beyond its end would kill the process."""
    try:
        free = os.statvfs(_PLACE)
    except (OSError, AttributeError):  # other systems
        return False
    return num_bytes <= _MOST_OF_FREE * free.f_bavail * free.f_frsize
