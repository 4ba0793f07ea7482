"""Batch norm over the joined batch of all ranks.

PyTorch's own ``SyncBatchNorm`` runs on GPUs only; this one runs wherever the ranks do, so that it can be tested.
"""

from typing import Any

import torch
from torch import Tensor, nn

from supernet.compute.distributed import Processes


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Normalises by mean and variance over all images of a step, which are the same number on each rank.

    Args:
        num_features: Channels.
        epsilon: Added to the variance.
        ranks: Whose images count.
    """

    def __init__(self, num_features: int, epsilon: float, ranks: Processes) -> None:
        super().__init__(num_features, epsilon, track_running_stats=False, device="meta")
        self.ranks = ranks

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape and type."""
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        # Parts of a variance add up by way of squared means, which cancel: hence float64 for these few numbers.
        mean, variance = values.mean((0, 2, 3)).double(), values.var((0, 2, 3), correction=0).double()
        parts = torch.stack([mean, variance + mean**2])
        joint_mean, joint_square = _RankMean.apply(parts, self.ranks)  # type: ignore[no-untyped-call]
        scale = self.weight * (joint_square - joint_mean**2 + self.eps).rsqrt().to(values.dtype)
        shift = self.bias - joint_mean.to(values.dtype) * scale
        normalised: Tensor = values * scale[:, None, None] + shift[:, None, None]
        return normalised.to(x.dtype)


class _RankMean(torch.autograd.Function):
    """The mean of a tensor over ranks; each rank's loss is part of a mean over ranks, so its gradient is one too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Processes) -> Tensor:
        ctx.ranks = ranks
        return ranks.mean(value.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ranks: Processes = ctx.ranks
        return ranks.mean(gradients[0].clone()), None


def synchronise(network: nn.Module, ranks: Processes) -> None:
    """Replace every batch norm inside ``network``, which is weightless, by one over the images of all ranks."""
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.BatchNorm2d):
                setattr(parent, name, SynchronisedBatchNorm(module.num_features, module.eps, ranks))
