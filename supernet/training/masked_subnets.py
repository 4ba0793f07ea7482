"""Subnets as the largest network with masked channels, so that every subnet has the same tensor shapes.

A subnet's channels are the leading ones of the largest network. If the gain and bias of a batch norm are 0 for the
others, these channels are 0 from there on and affect nothing; blocks that the subnet does not have add 0 to their
input. The gradients of everything that is masked are exactly 0, as if the subnet were computed with slices.
"""

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from supernet.arch import Arch, make_divisible
from supernet.channel_sorting import channel_axes
from supernet.weight_sharing import SuperNet


def can_mask(largest: Arch, arch: Arch) -> bool:
    """Whether ``arch`` has the same residual connections as ``largest``, which masks cannot add or remove."""
    return largest.residual_stages == arch.residual_stages


def masked_outputs(supernet: SuperNet, images: Tensor, arch: Arch) -> tuple[Tensor, Tensor]:
    """Compute subnet ``arch`` in training mode as the largest network with masked channels.

    Outputs and gradients are those of :meth:`supernet.weight_sharing.SuperNet.forward`, at the cost of the largest
    subnet. On a GPU, the first convolution of every new shape takes far longer than later ones: on an H200 with cuDNN
    9.19 and one CPU thread, a step with one new subnet took 7 s, and 0.12 s with masks (docs/results/photos.md).

    Args:
        supernet: In training mode.
        images: (B, 3, H, W), normalised.
        arch: A subnet of which :func:`can_mask` is true.

    Returns:
        ``low`` (B, 2K, H/4, W/4) and ``high`` (B, K, H/2, W/2).

    Raises:
        UserError: ``arch`` is outside the space.
    """
    assert supernet.training
    supernet.space.check(arch)
    largest = supernet.space.largest()
    weights: dict[str, Tensor] = dict(supernet.network.named_parameters())
    for i, stage in enumerate(arch.stages):
        for j, kernel_size in enumerate(stage.kernel_sizes):
            name = f"stage.{i}.{j}.depth_conv.0.weight"
            border = (weights[name].shape[-1] - kernel_size) // 2
            if border:
                weights[name] = functional.pad(supernet.shrink_kernel(weights[name], i, j, kernel_size), (border,) * 4)
    weights |= masked_norms(weights, largest, arch)
    template = supernet.templates(largest, training=True)
    outputs: tuple[Tensor, Tensor] = functional_call(template, weights, (images,))
    return outputs


def masked_norms(parameters: Mapping[str, Tensor], largest: Arch, arch: Arch) -> dict[str, Tensor]:
    """Return the gains and biases of all batch norms, 0 for channels and blocks that ``arch`` does not have.

    Args:
        parameters: Of LitePose(largest), by name.
        largest: The largest arch of a space.
        arch: Another arch of the space.
    """
    masks = norm_masks(largest, arch)
    device = parameters[norm_names(largest)[0]].device
    masks = masks.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else masks.to(device)
    return times_masks(parameters, largest, masks)


def norm_names(largest: Arch) -> list[str]:
    """Return the names of the gains and biases of all batch norms that are not the same in all subnets."""
    return [f"{module}.{kind}" for module in _norms(largest) for kind in ("weight", "bias")]


def norm_masks(largest: Arch, arch: Arch) -> Tensor:
    """Return one mask after the other for all of :func:`norm_names`, flat, float32, on the CPU."""
    return torch.cat([_mask(largest, arch, name.rpartition(".")[0]) for name in norm_names(largest)])


def times_masks(parameters: Mapping[str, Tensor], largest: Arch, masks: Tensor) -> dict[str, Tensor]:
    """Return the gains and biases of :func:`norm_names`, times ``masks`` on their device."""
    names = norm_names(largest)
    norms = [parameters[name] for name in names]
    parts = torch.split(masks.to(norms[0].dtype), [norm.numel() for norm in norms])
    return dict(zip(names, torch._foreach_mul(norms, list(parts)), strict=True))


@lru_cache(maxsize=8)
def _norms(largest: Arch) -> dict[str, str]:
    """Return by module name the group of channels of every batch norm that is not the same in all subnets."""
    axes = channel_axes(largest)
    return {module: own[0] for module, (own, _) in axes.items() if len(own) == 1 and own[0] is not None}


def _mask(largest: Arch, arch: Arch, norm: str) -> Tensor:
    """Return (C,) float32, 1 for the channels of the batch norm that ``arch`` has."""
    group = _norms(largest)[norm]
    mask = torch.zeros(_num_channels(largest, group))
    if norm.startswith("stage."):
        stage, block = map(int, norm.split(".")[1:3])
        if block >= arch.stages[stage].depth:
            if not norm.endswith("point_conv.1"):
                mask.fill_(1.0)  # its last batch norm masks the block
            return mask
        if norm.endswith("point_conv.1"):
            mask[: arch.stages[stage].width] = 1.0
            return mask
    mask[: _num_channels(arch, group)] = 1.0
    return mask


def _num_channels(arch: Arch, group: str) -> int:
    """Return the number of channels of a group of ``channel_sorting.channel_axes``."""
    kind, _, place = group.partition(":")
    if kind == "expand_ratio":
        stage, block = map(int, place.split(".")[1:])
        width = arch.backbone_widths[stage] if block == 0 else arch.stages[stage].width
        return make_divisible(width * arch.stages[stage].expand_ratios[block])
    if place == "stem":
        return arch.stem_width
    part, _, index = place.partition(".")
    return arch.stages[int(index)].width if part == "stage" else arch.deconv_widths[int(index)]
