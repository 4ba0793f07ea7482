"""Importance sorting: the shared channels in descending order of importance, without changing the function.

A subnet uses the leading channels of the largest network. Before widths or expand ratios become elastic, the channels
that matter most are moved to the front, so that subnets start from the best part of what was learned.

Source: Once-for-All (arXiv 1908.09791), section 3.3, "elastic width": channels are sorted by the L1 norm of their
weights. We take the weights that read a channel, over all its readers, and sort the widths of stages as well as hidden
channels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from supernet.arch import NUM_LEVELS, Arch

Axes = tuple[str | None, ...]
"""For the leading axes of a tensor, the group of channels that each runs over; None where the order is fixed."""
DIMENSIONS = ("expand_ratio", "width")
"""Elastic dimensions that cut channels off, and whose channels can be sorted."""


def channel_axes(arch: Arch) -> dict[str, tuple[Axes, tuple[int, ...]]]:
    """Return by LitePose module name the channel groups of its weight's axes, and which of these axes are read from.

    Channels that are added to each other share a group. Groups of hidden channels are named ``expand_ratio:...``, all
    others ``width:...``. Batch norms have one axis and read nothing.
    """
    found: dict[str, tuple[Axes, tuple[int, ...]]] = {}

    def conv_norm(name: str, outputs: str, inputs: str | None) -> None:
        """``inputs`` is None for a depthwise convolution."""
        found[f"{name}.0"] = ((outputs, inputs), () if inputs is None else (1,))
        found[f"{name}.1"] = ((outputs,), ())

    features = ["width:stem"]
    found["first.2"], found["first.3"] = ((features[0], None), ()), ((features[0],), ())
    width, count = features[0], arch.stem_width
    for i, stage in enumerate(arch.stages):
        residual = stage.stride == 1 and stage.width == count  # then the stage's input is added to its output
        own, count = (width if residual else f"width:stage.{i}"), stage.width
        for j in range(stage.depth):
            hidden, block = f"expand_ratio:stage.{i}.{j}", f"stage.{i}.{j}"
            conv_norm(f"{block}.inv", hidden, width)
            conv_norm(f"{block}.depth_conv", hidden, None)
            conv_norm(f"{block}.point_conv", own, hidden)
            width = own
        features.append(width)
    for level in range(NUM_LEVELS):
        outputs = f"width:deconv.{level}"
        found[f"deconv_refined.{level}"] = ((width, outputs), (0,))  # transposed: (in, out, k, k)
        found[f"deconv_raw.{level}"] = ((features[3 - level], outputs), (0,))
        found[f"deconv_bnrelu.{level}.0"] = ((outputs,), ())
        width = outputs
        if level > 0:
            for name, inputs in (("refined", width), ("raw", features[2 - level])):
                prefix = f"final_{name}.{level - 1}.conv"
                conv_norm(prefix, inputs, None)
                found[f"{prefix}.3"] = ((None, inputs), (1,))
    return found


def channel_orders(weights: Mapping[str, Tensor], arch: Arch, dimension: str) -> dict[str, Tensor]:
    """Return for each group of channels of ``dimension`` ("expand_ratio" or "width") its order by importance.

    Args:
        weights: Tensors of LitePose(arch) by state-dict name.
        arch: The largest arch.
        dimension: Whose channels to order.

    Returns:
        By group, the present places of its channels (C,), most important first.
    """
    importance: dict[str, Tensor] = {}
    for module, (axes, read) in channel_axes(arch).items():
        for axis in read:
            group = axes[axis]
            if group is not None and group.startswith(f"{dimension}:"):
                weight = weights[f"{module}.weight"].detach().abs()
                others = [other for other in range(weight.dim()) if other != axis]
                # Exact enough that no rounding, which depends on the order of the others, decides between two channels.
                norms = weight.sum(others, dtype=torch.float64)
                importance[group] = importance[group] + norms if group in importance else norms
    return {group: torch.argsort(value, descending=True, stable=True) for group, value in importance.items()}


@torch.no_grad()
def reorder_channels(tensors: Mapping[str, Tensor], arch: Arch, orders: Mapping[str, Tensor]) -> None:
    """Put the channels of LitePose(arch)'s ``tensors`` in the given ``orders``, in place.

    Args:
        tensors: By state-dict name: weights, statistics, averaged weights, or moments of the optimizer. Scalars and
            tensors of other layers stay as they are.
        arch: The largest arch.
        orders: See :func:`channel_orders`.
    """
    axes_of = channel_axes(arch)
    for name, tensor in tensors.items():
        axes, _ = axes_of.get(name.rpartition(".")[0], ((), ()))
        for axis, group in enumerate(axes[: tensor.dim()]):
            if group is not None and group in orders:
                tensor.copy_(tensor.index_select(axis, orders[group]))
