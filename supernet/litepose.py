"""LitePose: the network of any arch.

Source: LitePose (arXiv 2205.01271), section 3 (single branch, fusion deconvolution head, large kernels); state-dict
names and shapes equal those of the published checkpoints, so that these load with ``strict=True``.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from supernet.arch import DECONV_KERNEL_SIZE, HEAD, HEAD_KERNEL_SIZE, STEM_CHANNELS, Arch, make_divisible
from supernet.depthwise import DepthwiseConv2d

LAST_LAYERS = {
    f"final_{branch}.{level.prediction.index}.conv.3.weight": level.prediction.maps_per_keypoint
    for branch in ("refined", "raw")
    for level in HEAD
    if level.prediction is not None
}
"""Weights whose shape depends on the keypoint set, with their maps per keypoint: heatmaps then tags, or heatmaps."""
_HEATMAP_STD, _TAG_STD = 0.001, 0.1


class InvertedBottleneck(nn.Module):
    """1x1 expansion, depthwise k x k, 1x1 projection; residual where stride is 1 and widths agree.

    Source: MobileNetV2 (arXiv 1801.04381), section 3.
    """

    def __init__(self, in_width: int, width: int, stride: int, expand_ratio: int, kernel_size: int) -> None:
        super().__init__()
        hidden = make_divisible(in_width * expand_ratio)
        self.inv = _conv_norm(in_width, hidden, 1)
        self.depth_conv = _normed(DepthwiseConv2d(hidden, kernel_size, stride))
        self.point_conv = _conv_norm(hidden, width, 1, activation=False)
        self.residual = stride == 1 and in_width == width

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_width, H, W) to (B, width, H / stride, W / stride)."""
        out: Tensor = self.point_conv(self.depth_conv(self.inv(x)))
        return x + out if self.residual else out


class SeparablePrediction(nn.Module):
    """Depthwise 5x5, batch norm, ReLU, 1x1 without bias."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            DepthwiseConv2d(width, HEAD_KERNEL_SIZE),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            _conv(width, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to (B, outputs, H, W)."""
        out: Tensor = self.conv(x)
        return out


class Build(Protocol):
    """Builds one module of a network."""

    def __call__(self, place: str, make: Callable[..., nn.Module], *sizes: int) -> nn.Module:
        """Return the module ``make(*sizes)`` for the state-dict prefix ``place``."""
        ...


def build_new(place: str, make: Callable[..., nn.Module], *sizes: int) -> nn.Module:
    """Build a new module for every place."""
    return make(*sizes)


class LitePose(nn.Module):
    """The network of one arch.

    Args:
        arch: The architecture; its resolution does not affect the weights.
        num_keypoints: K.
        build: Builds its modules.
    """

    def __init__(self, arch: Arch, num_keypoints: int, build: Build = build_new) -> None:
        super().__init__()
        self.arch, self.num_keypoints = arch, num_keypoints
        self.first = build("first", _stem, arch.stem_width)
        widths, stages = [arch.stem_width], []
        for i, stage in enumerate(arch.stages):
            blocks, width = [], widths[-1]
            for j, (expand_ratio, kernel_size) in enumerate(stage.blocks()):
                sizes = (width, stage.width, stage.stride if j == 0 else 1, expand_ratio, kernel_size)
                blocks.append(build(f"stage.{i}.{j}", InvertedBottleneck, *sizes))
                width = stage.width
            stages.append(nn.Sequential(*blocks))
            widths.append(width)
        self.stage = nn.ModuleList(stages)
        levels = list(zip(HEAD, arch.deconv_widths, strict=True))
        predictions = [(level.prediction, width) for level, width in levels if level.prediction is not None]
        self.deconv_refined = nn.ModuleList(
            build(f"deconv_refined.{i}", _deconv, *pair)
            for i, pair in enumerate(pairwise((widths[-1], *arch.deconv_widths)))
        )
        self.deconv_raw = nn.ModuleList(
            build(f"deconv_raw.{level.index}", _deconv, widths[level.skip], width) for level, width in levels
        )
        self.deconv_bnrelu = nn.ModuleList(
            build(f"deconv_bnrelu.{level.index}", _norm_relu, width) for level, width in levels
        )
        self.final_refined = nn.ModuleList(
            build(f"final_refined.{last.index}", SeparablePrediction, width, last.num_maps(num_keypoints))
            for last, width in predictions
        )
        self.final_raw = nn.ModuleList(
            build(f"final_raw.{last.index}", SeparablePrediction, widths[last.skip], last.num_maps(num_keypoints))
            for last, _ in predictions
        )
        self._initialise()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict heatmaps and tags.

        Args:
            images: (B, 3, H, W) normalised, H and W multiples of 16.

        Returns:
            ``low`` (B, 2K, H/4, W/4), K heatmaps then K tags, and ``high`` (B, K, H/2, W/2), K heatmaps.

        Raises:
            ValueError: H or W is not a multiple of 16.
        """
        if images.shape[-1] % 16 or images.shape[-2] % 16:
            raise ValueError(f"images are {tuple(images.shape[-2:])} px; both sides must be multiples of 16")
        features = [self.first(images)]
        for stage in self.stage:
            features.append(stage(features[-1]))
        x, outputs = features[-1], []
        for i, level in enumerate(HEAD):
            x = self.deconv_bnrelu[i](self.deconv_refined[i](x) + self.deconv_raw[i](features[level.skip]))
            if level.prediction is not None:
                last = level.prediction
                outputs.append(self.final_refined[last.index](x) + self.final_raw[last.index](features[last.skip]))
        return outputs[0], outputs[1]

    def _initialise(self) -> None:
        """Draw convolution weights from He normals over the fan-out.

        Heatmaps start near 0. Tags start spread out, because the push loss has no gradient where all tags are equal.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not module.weight.is_meta:
                outputs = (
                    module.weight.shape[0] if isinstance(module, nn.Conv2d) else module.out_channels * module.groups
                )
                fan = outputs // module.groups * math.prod(module.kernel_size) / math.prod(module.stride)
                nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan))
        for predictions in (self.final_refined, self.final_raw):
            for level, prediction in enumerate(predictions):
                weight = prediction.get_parameter("conv.3.weight")
                if not weight.is_meta:
                    nn.init.normal_(weight, std=_HEATMAP_STD)
                    if level == 0:
                        nn.init.normal_(weight[self.num_keypoints :], std=_TAG_STD)


def _stem(width: int) -> nn.Sequential:
    return nn.Sequential(
        _conv_norm(3, STEM_CHANNELS, 3, 2),
        _normed(DepthwiseConv2d(STEM_CHANNELS, 3)),
        _conv(STEM_CHANNELS, width, 1),
        nn.BatchNorm2d(width),
    )


def _norm_relu(width: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _conv(inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, bias=False)


def _deconv(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, DECONV_KERNEL_SIZE, 2, 1, bias=False)


def _conv_norm(inputs: int, outputs: int, kernel_size: int, stride: int = 1, activation: bool = True) -> nn.Sequential:
    return _normed(_conv(inputs, outputs, kernel_size, stride), activation)


def _normed(conv: nn.Conv2d, activation: bool = True) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), *[nn.ReLU6(inplace=True)] * activation)


def rows_of_keypoints(layer: str, sources: Sequence[int | None], num_keypoints: int) -> list[tuple[int, int]]:
    """Return the rows (own, other) of a last layer that predict the same keypoint in two networks.

    Args:
        layer: One of ``LAST_LAYERS``.
        sources: For each keypoint of the own network, its index in the other one, or None if it does not predict it.
        num_keypoints: K of the other network.
    """
    return [
        (block * len(sources) + keypoint, block * num_keypoints + source)
        for block in range(LAST_LAYERS[layer])
        for keypoint, source in enumerate(sources)
        if source is not None
    ]


def normalisation_layers(network: nn.Module) -> list[nn.BatchNorm2d]:
    """Return every batch-norm layer of ``network`` in state-dict order."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def in_channels_last(network: nn.Module) -> None:
    """Store the convolution weights of ``network`` in channels-last order, in place; that order runs faster here."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
