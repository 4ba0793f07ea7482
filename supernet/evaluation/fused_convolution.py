"""Convolutions on a CPU with their activation in one pass over the map.

PyTorch's compiler reaches oneDNN's fused convolutions through an operator that it registers, and so do we: compiling
itself takes longer than a candidate. Without it PyTorch runs 1x1 convolutions of a few images on one thread by other,
slower code. Where the operator does not exist, or on other devices, the plain operators give the same, up to rounding.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["none", "relu", "relu6"]
_ONEDNN: dict[Activation, tuple[str, list[float]]] = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
}
_PLAIN: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": functional.relu_,
    "relu6": lambda x: functional.hardtanh_(x, 0.0, 6.0),
}


def convolved(convolution: nn.Conv2d, x: Tensor, activation: Activation = "none") -> Tensor:
    """Return the activation of a zero-padded convolution of ``x`` (B, C, H, W); has no gradient."""
    weight, bias, padding = convolution.weight, convolution.bias, convolution.padding
    assert not isinstance(padding, str)
    stride, dilation, groups = convolution.stride, convolution.dilation, convolution.groups
    if x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and _has_operator():
        name, limits = _ONEDNN[activation]
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, padding, stride, dilation, groups, name, limits, ""
        )
        return out
    return _PLAIN[activation](functional.conv2d(x, weight, bias, stride, padding, dilation, groups))


def _has_operator() -> bool:
    is_available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return is_available and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class FusedConvolution(nn.Module):
    """A convolution with bias and activation, for inference.

    Args:
        convolution: The convolution, which this one shares its weights with.
        activation: What follows it.
    """

    def __init__(self, convolution: nn.Conv2d, activation: Activation) -> None:
        super().__init__()
        self.convolution, self.activation = convolution, activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        return convolved(self.convolution, x, self.activation)
