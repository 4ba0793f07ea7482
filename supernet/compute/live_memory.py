"""The memory that tensors take while a function runs, counted from the operations and not measured.

It works on every device, and on the device "meta", where nothing is computed and nothing allocated.
"""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_BLOCK = 512
"""Bytes; a GPU's allocator rounds up to a multiple."""


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are made within the context, until they are freed.

    Args:
        device: Type of the device whose tensors count.

    Attributes:
        current, peak: Bytes now, and the most so far.
    """

    def __init__(self, device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device, self._known = device, dict[int, int]()
        self.current: int = 0
        self.peak: int = 0

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        """Run an operation and count the memory of its results, views excepted."""
        result = operation(*arguments, **(named or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.device.type == self._device:
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if (key := storage._cdata) not in self._known:
            self._known[key] = size = -(-storage.nbytes() // _BLOCK) * _BLOCK
            self.current += size
            self.peak = max(self.peak, self.current)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.current -= self._known.pop(key)


class MetaAutocast(TorchFunctionMode):
    """What ``torch.autocast`` does in a network: products in bfloat16. For the device "meta", which has no autocast."""

    _PRODUCTS = frozenset({torch.conv2d, torch.conv_transpose2d, torch.matmul, torch.Tensor.matmul})
    _PRODUCTS |= {torch.Tensor.__matmul__}

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        """Run a function, products with their floating-point arguments in bfloat16."""
        if function in self._PRODUCTS:
            arguments = [_halved(argument) for argument in arguments]
        return function(*arguments, **(named or {}))


def _halved(value: Any) -> Any:
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(torch.bfloat16) if is_float else value
