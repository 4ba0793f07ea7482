"""Batch norm over the joint batch of all processes.

PyTorch's own ``SyncBatchNorm`` runs on GPUs only; this one runs on any device, so that tests can cover it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from supernet.compute.distributed import Processes


class SyncBatchNorm(nn.BatchNorm2d):
    """Normalises by mean and variance over the images of all processes, each of which has equally many.

    Args:
        num_features: Channels.
        epsilon: Added to the variance.
        processes: The processes that train together.
    """

    def __init__(self, num_features: int, epsilon: float, processes: Processes) -> None:
        super().__init__(num_features, epsilon, track_running_stats=False, device="meta")
        self.processes = processes

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape and type."""
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        # The joint variance is a mean of squares minus a squared mean, which cancel: hence float64 for these numbers.
        mean, variance = values.mean((0, 2, 3)).double(), values.var((0, 2, 3), correction=0).double()
        parts = torch.stack([mean, variance + mean**2])
        joint_mean, joint_square = _ProcessMean.apply(parts, self.processes)  # type: ignore[no-untyped-call]
        scale = self.weight * (joint_square - joint_mean**2 + self.eps).rsqrt().to(values.dtype)
        shift = self.bias - joint_mean.to(values.dtype) * scale
        normalised: Tensor = values * scale[:, None, None] + shift[:, None, None]
        return normalised.to(x.dtype)


class _ProcessMean(torch.autograd.Function):
    """The mean of a tensor over processes.

    The loss is the mean of the losses of all processes, so the gradient is a mean over processes too.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.mean(value.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        processes: Processes = ctx.processes
        return processes.mean(gradients[0].clone()), None


def synchronise_batch_norm(network: nn.Module, processes: Processes) -> None:
    """Replace every batch norm inside ``network``, which has no weights, by one over the images of all processes."""
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.BatchNorm2d):
                setattr(parent, name, SyncBatchNorm(module.num_features, module.eps, processes))
