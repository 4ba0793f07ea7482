"""Depthwise convolution with a fast weight gradient on a CPU.

On CPUs, the library that PyTorch uses has a fast weight gradient only for depthwise kernels of at most three columns;
for 5 x 5 and 7 x 7 it takes ten times as long as the forward pass. The gradient of three columns of a larger kernel is
that of a three-column kernel over the shifted input, so it is assembled from such strips.
``scripts/benchmarks/depthwise.py`` measures both.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_STRIP = 3


class DepthwiseConv2d(nn.Conv2d):
    """Square depthwise convolution without bias, padded by half its kernel; parameters and results of ``nn.Conv2d``.

    Args:
        channels: C.
        kernel_size: Odd.
        stride: In both directions.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel_size, stride, kernel_size // 2, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H', W')."""
        by_strips = self.training and x.device.type == "cpu" and self.weight.shape[-1] > _STRIP
        if by_strips and self.weight.requires_grad and torch.is_grad_enabled():
            weight: Tensor = self.weight
            if torch.is_autocast_enabled("cpu"):
                # Autocast covers only the forward pass of a custom function: without these casts, the backward pass
                # would mix number formats, which only the kernels of some processors accept.
                x, weight = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (x, weight))
            return cast(Tensor, _ByStrips.apply(x, weight, self.stride[0]))  # type: ignore[no-untyped-call]
        return super().forward(x)


def weight_gradient(x: Tensor, gradient: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Return the weight gradient (C, 1, k, k) of a depthwise convolution padded by half its kernel.

    Args:
        x: Input (B, C, H, W).
        gradient: Gradient of the output (B, C, H', W').
        kernel_size: k, odd.
        stride: In both directions.
    """
    half = kernel_size // 2
    seen = [(side - 1) * stride + kernel_size for side in gradient.shape[2:]]  # an unread extra row would be slow
    below, right = (side - half - own for side, own in zip(seen, x.shape[2:], strict=True))
    padded = functional.pad(x, (half, right, half, below))
    num_strips, left, strips = -(-kernel_size // _STRIP), 0, []
    for i in range(num_strips):
        width = (kernel_size + i) // num_strips  # of nearly equal width, because a single column is slow
        shifted = padded[..., left : left + seen[1] - kernel_size + width]
        shifted = shifted.contiguous(memory_format=torch.channels_last)
        like = x.new_empty(x.shape[1], 1, kernel_size, width)
        strips.append(_backward(gradient, shifted, like, stride, 0, (False, True))[1])
        left += width
    return torch.cat(strips, 3)


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, needed: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Return PyTorch's gradients of input and weight, each if needed."""
    groups, mask = x.shape[1], [*needed, False]
    gradients = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, mask
    )
    return gradients[0], gradients[1]


class _ByStrips(torch.autograd.Function):
    """The convolution with :func:`weight_gradient` as its backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        size, stride = weight.shape[-1], ctx.stride
        of_x = _backward(gradient, x, weight, stride, size // 2, (True, False))[0] if ctx.needs_input_grad[0] else None
        of_weight = weight_gradient(x, gradient, size, stride) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None
