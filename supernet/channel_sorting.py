"""Importance sorting: reorders the shared channels by descending importance without changing the network's outputs.

A subnet uses the leading channels of the largest network. Before widths or expand ratios become elastic, the most
important channels are moved to the front, so that subnets start from the best channels trained so far.

Source: Once-for-All (arXiv 1908.09791), section 3.3, "elastic width": channels are sorted by the L1 norm of their
weights. We sum the weights that read a channel over all layers that read it, and sort the widths of stages as well as
hidden channels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from supernet.arch import HEAD, Arch

Axes = tuple[str | None, ...]
"""Group of channels of each leading axis of a tensor; None for an axis whose order is fixed."""
DIMENSIONS = ("expand_ratio", "width")
"""Elastic dimensions that drop channels, and so need them sorted."""


def channel_axes(arch: Arch) -> dict[str, tuple[Axes, tuple[int, ...]]]:
    """Return the channel groups of each weight's axes and which axes index input channels, by LitePose module name.

    Channels that are added to each other share a group. Groups of hidden channels are named ``expand_ratio:...``, all
    others ``width:...``. Batch norms have one axis and no input channels.
    """
    axes: dict[str, tuple[Axes, tuple[int, ...]]] = {}

    def conv_norm(name: str, outputs: str, inputs: str | None) -> None:
        """``inputs`` is None for a depthwise convolution."""
        axes[f"{name}.0"] = ((outputs, inputs), () if inputs is None else (1,))
        axes[f"{name}.1"] = ((outputs,), ())

    backbone = ["width:stem"]
    axes["first.2"], axes["first.3"] = ((backbone[0], None), ()), ((backbone[0],), ())
    width = backbone[0]
    for i, (stage, is_residual) in enumerate(zip(arch.stages, arch.residual_stages, strict=True)):
        own = width if is_residual else f"width:stage.{i}"
        for j in range(stage.depth):
            hidden, block = f"expand_ratio:stage.{i}.{j}", f"stage.{i}.{j}"
            conv_norm(f"{block}.inv", hidden, width)
            conv_norm(f"{block}.depth_conv", hidden, None)
            conv_norm(f"{block}.point_conv", own, hidden)
            width = own
        backbone.append(width)
    for level in HEAD:
        outputs = f"width:deconv.{level.index}"
        axes[f"deconv_refined.{level.index}"] = ((width, outputs), (0,))  # transposed: (in, out, k, k)
        axes[f"deconv_raw.{level.index}"] = ((backbone[level.skip], outputs), (0,))
        axes[f"deconv_bnrelu.{level.index}.0"] = ((outputs,), ())
        width = outputs
        if level.prediction is not None:
            for branch, inputs in (("refined", width), ("raw", backbone[level.prediction.skip])):
                prefix = f"final_{branch}.{level.prediction.index}.conv"
                conv_norm(prefix, inputs, None)
                axes[f"{prefix}.3"] = ((None, inputs), (1,))
    return axes


def channel_orders(weights: Mapping[str, Tensor], arch: Arch, dimension: str) -> dict[str, Tensor]:
    """Return the order by importance of each group of channels of a dimension.

    Args:
        weights: Tensors of LitePose(arch) by state-dict name; layers that are missing, such as the head of a pretrained
            backbone, do not count.
        arch: The largest arch.
        dimension: "expand_ratio" or "width".

    Returns:
        By group, the current positions of its channels (C,), most important first.
    """
    importance: dict[str, Tensor] = {}
    for module, (axes, read) in channel_axes(arch).items():
        for axis in read:
            group = axes[axis]
            if group is not None and group.startswith(f"{dimension}:") and f"{module}.weight" in weights:
                weight = weights[f"{module}.weight"].detach().abs()
                others = [other for other in range(weight.dim()) if other != axis]
                # In float64, so that rounding, which depends on the order of the other axes, cannot decide.
                norms = (weight.cpu() if weight.device.type == "mps" else weight).sum(others, dtype=torch.float64)
                importance[group] = importance[group] + norms if group in importance else norms
    return {group: torch.argsort(value, descending=True, stable=True) for group, value in importance.items()}


@torch.no_grad()
def reorder_channels(tensors: Mapping[str, Tensor], arch: Arch, orders: Mapping[str, Tensor]) -> None:
    """Reorder the channels of LitePose(arch)'s ``tensors`` in place.

    Args:
        tensors: Weights, statistics, averaged weights, or moments of the optimizer, by state-dict name. Scalars and
            tensors of other layers stay unchanged.
        arch: The largest arch.
        orders: See :func:`channel_orders`.
    """
    axes_of = channel_axes(arch)
    for name, tensor in tensors.items():
        axes, _ = axes_of.get(name.rpartition(".")[0], ((), ()))
        for axis, group in enumerate(axes[: tensor.dim()]):
            if group is not None and group in orders:
                tensor.copy_(tensor.index_select(axis, orders[group].to(tensor.device)))
