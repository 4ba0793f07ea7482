"""The network in the form that is deployed: batch norm folded into the convolutions, normalisation inside if wanted."""

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from supernet.litepose import LitePose, normalisation_layers
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD

Input = Literal["uint8", "float32"]
"""Input of a deployed network. "uint8": RGB images (B, H, W, 3) as decoders and cameras give them, normalised inside;
"float32": images (B, 3, H, W) normalised outside (``supernet.pose.geometry.normalise``)."""


class DeploymentNetwork(nn.Module):
    """A LitePose without batch norm, on the CPU, in evaluation mode.

    Args:
        network: In evaluation mode; not changed.
        takes: Kind of input.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: LitePose, takes: Input = "uint8") -> None:
        super().__init__()
        self.network, self.takes = fold_batch_norm(network), takes
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255.0)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255.0)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``images`` (see ``Input``) to ``low`` (B, 2K, H/4, W/4) and ``high`` (B, K, H/2, W/2)."""
        if self.takes == "uint8":
            images = (images.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.deviation
        outputs: tuple[Tensor, Tensor] = self.network(images)
        return outputs


def fold_batch_norm(network: LitePose) -> LitePose:
    """Return a copy of ``network`` on the CPU whose batch norms are merged into the convolutions before them.

    Factors and offsets are computed in float64.

    Raises:
        ValueError: The network is in training mode, where batch norm is not a fixed function.
    """
    if network.training:
        raise ValueError("the network is in training mode; calibrate it before exporting it")
    result = copy.deepcopy(network).cpu().requires_grad_(False)
    for sequence in [module for module in result.modules() if isinstance(module, nn.Sequential)]:
        for index in range(1, len(sequence)):
            conv, norm = sequence[index - 1], sequence[index]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(norm, conv)
                sequence[index] = nn.Identity()
    # A level's two transposed convolutions are summed before their batch norm.
    for refined, raw, norm_relu in zip(result.deconv_refined, result.deconv_raw, result.deconv_bnrelu, strict=True):
        assert isinstance(norm_relu, nn.Sequential)
        _fold(norm_relu[0], refined, raw)
        norm_relu[0] = nn.Identity()
    assert not normalisation_layers(result)
    return result


def _fold(norm: nn.Module, *summands: nn.Module) -> None:
    """Scale convolutions whose outputs are summed by the factors of ``norm``, and add its offsets to the first."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    offset = norm.bias.double() - norm.running_mean.double() * factor
    for conv in summands:
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        shape = (-1, 1, 1, 1) if isinstance(conv, nn.Conv2d) else (1, -1, 1, 1)
        weight = (conv.weight.double() * factor.view(shape)).float().contiguous()
        conv.weight = nn.Parameter(weight, requires_grad=False)
    summands[0].bias = nn.Parameter(offset.float(), requires_grad=False)
