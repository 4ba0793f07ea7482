"""Number formats of training: bfloat16 and TF32 where they are fast, float32 where it matters."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

from supernet.compute.live_memory import MetaAutocast

Precision = Literal["auto", "float32", "bfloat16"]


def is_bfloat16(device: torch.device, precision: Precision) -> bool:
    """Whether forward passes on ``device`` are in bfloat16; "auto" is bfloat16 on GPUs that support it."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"


def forward_precision(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context for forward passes: convolutions in bfloat16, or everything in float32.

    Weights, gradients and losses stay float32. bfloat16 has the range of float32, so losses need no scaling.

    Args:
        device: The network's device.
        precision: See :func:`is_bfloat16`.
    """
    enabled = is_bfloat16(device, precision)
    if device.type == "meta":
        return MetaAutocast() if enabled else nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 within this context: GPUs then multiply float32 with 10 bits of mantissa."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = allowed
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
