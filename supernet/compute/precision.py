"""Number formats of training: bfloat16 and TF32 where they are fast, float32 where it matters."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def forward_precision(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context for forward passes: convolutions in bfloat16, or everything in float32.

    Weights, gradients and losses stay float32. bfloat16 has the range of float32, so losses need no scaling.

    Args:
        device: The network's device.
        precision: "auto" is bfloat16 on GPUs that support it, else float32.
    """
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if fast else "float32"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


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
