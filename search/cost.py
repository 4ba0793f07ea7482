"""Analytic costs of one arch: multiply-adds in two countings, and parameters (no torch)."""

from collections.abc import Callable

from supernet.arch import Arch, Layer, layers


def macs(arch: Arch, num_keypoints: int) -> int:
    """Multiply-adds performed by all convolutions for one square input, each counted once."""
    return sum(
        _layer_macs(layer, layer.input_size if layer.transposed else layer.output_size)
        for layer in layers(arch, num_keypoints)
    )


def macs_paper(arch: Arch, num_keypoints: int) -> int:
    """Multiply-adds in the counting of LitePose's published table (XS 1.2 G, S 5.0 G, M 7.8 G, L 13.7 G).

    It differs from :func:`macs` in taking transposed convolutions at their output positions (four times what is
    performed at stride 2) and in adding 2 per batch-norm element and 1 per activation element.
    """
    total = 0
    for layer in layers(arch, num_keypoints):
        norm, activation = layer.norm_activation
        elements = layer.out_channels * layer.output_size**2
        total += _layer_macs(layer, layer.output_size) + (2 * norm + activation) * elements
    return total


def params(arch: Arch, num_keypoints: int) -> int:
    """Trainable parameters: convolution weights and batch-norm scales and shifts."""
    return sum(
        layer.kernel_size**2 * layer.in_channels // layer.groups * layer.out_channels
        + 2 * layer.norm_activation[0] * layer.out_channels
        for layer in layers(arch, num_keypoints)
    )


COSTS: dict[str, Callable[[Arch, int], int]] = {"macs": macs, "macs_paper": macs_paper, "params": params}
"""Every cost a budget can name."""


def _layer_macs(layer: Layer, size: int) -> int:
    return layer.kernel_size**2 * layer.in_channels // layer.groups * layer.out_channels * size**2
