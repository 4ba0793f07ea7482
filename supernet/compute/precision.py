"""Number formats of training: bfloat16 and TF32 where they are fast, float32 where it matters."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def forward_precision(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context for forward passes: convolutions in bfloat16, or all of it in float32.

    Weights, gradients and losses stay float32, and bfloat16 has float32's range, so that no loss needs scaling.

    Args:
        device: Where the network is.
        precision: "auto" takes bfloat16 on GPUs that compute it.
    """
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if fast else "float32"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Let GPUs multiply float32 with 10 bits of mantissa (TF32) within this context, or keep them from it."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = allowed
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
