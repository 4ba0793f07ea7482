"""A stand-in for CUDA graphs on any device: the operations of a function, repeated on the same memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ATEN = torch.ops.aten
WAITS = {
    ATEN._local_scalar_dense.default: "reads a number from the device",
    ATEN.nonzero.default: "has a shape that depends on values",
    ATEN.masked_select.default: "has a shape that depends on values",
    ATEN.lift_fresh.default: "copies a constant from the host",
    ATEN.lift_fresh_copy.default: "copies a constant from the host",
}
"""Operations that a recording on a GPU cannot contain."""


def tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects every operation within a context, those of the backward pass included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        assert operation not in WAITS, f"{operation} {WAITS[operation]}"
        result = operation(*arguments, **(named or {}))
        self.calls.append((operation, arguments, named or {}, result))
        return result

    @torch.no_grad()
    def repeat(self) -> None:
        """Run the same operations; results go where they went before, and nothing else of the function runs."""
        for operation, arguments, named, result in self.calls:
            for kept, new in zip(tensors(result), tensors(operation(*arguments, **named)), strict=True):
                if kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)


class RecordedOperations:
    """A recorder like ``supernet.compute.cuda_graphs.CudaGraphs``; ``num_recordings`` counts."""

    def __init__(self, device: torch.device) -> None:
        self.num_recordings = 0

    def __call__(self, run: Callable[[], None]) -> Callable[[], object]:
        self.num_recordings += 1
        run()
        with Operations() as operations:
            run()
        repeat: Callable[[], object] = operations.repeat
        return repeat
