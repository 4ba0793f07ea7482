"""The network in the form that is deployed: batch norm folded into the convolutions, normalisation inside if wanted."""

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from supernet.evaluation.folding import fold_batch_norms
from supernet.litepose import LitePose
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD

Input = Literal["uint8", "float32"]
"""Input of a deployed network. "uint8": RGB images (B, H, W, 3) as decoders and cameras give them, normalised inside;
"float32": images (B, 3, H, W) normalised outside (``supernet.pose.geometry.normalise``)."""


class DeploymentNetwork(nn.Module):
    """A LitePose without batch norm, on the CPU, in evaluation mode.

    Args:
        network: In evaluation mode; not changed.
        takes: Kind of input.

    Raises:
        ValueError: The network is in training mode, where its batch norms depend on the batch.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: LitePose, takes: Input = "uint8") -> None:
        super().__init__()
        self.network, self.takes = copy.deepcopy(network).cpu(), takes
        fold_batch_norms(self.network)
        for weight in self.network.parameters():
            weight.data = weight.data.contiguous()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255.0)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255.0)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``images`` (see ``Input``) to ``low`` (B, 2K, H/4, W/4) and ``high`` (B, K, H/2, W/2)."""
        if self.takes == "uint8":
            images = (images.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.deviation
        outputs: tuple[Tensor, Tensor] = self.network(images)
        return outputs
