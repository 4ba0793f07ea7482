"""Costs of a network counted from the list of its layers (no torch).

This is the only place that counts multiply-adds; a test compares the numbers with PyTorch's own counter.
"""

from collections.abc import Callable, Sequence

from supernet.arch import IMAGE, Arch, Layer, layers

FLOAT_BYTES = 4


def macs(layers: Sequence[Layer]) -> int:
    """Multiply-adds performed, each counted once."""
    return sum(_macs(layer, layer.input_size if layer.transposed else layer.output_size) for layer in layers)


def macs_paper(layers: Sequence[Layer]) -> int:
    """Multiply-adds by the rules of LitePose's published table; see :func:`search.cost.macs_paper`."""
    total = 0
    for layer in layers:
        norm, activation = layer.norm_activation
        elements = layer.out_channels * layer.output_size**2
        total += _macs(layer, layer.output_size) + (2 * norm + activation) * elements
    return total


def params(layers: Sequence[Layer]) -> int:
    """Convolution weights, batch-norm scales and shifts."""
    return sum(_weights(layer) + 2 * _norm_channels(layer) for layer in layers)


def weight_bytes(layers: Sequence[Layer]) -> int:
    """Bytes of the parameters and of the batch norms' running means and variances."""
    return FLOAT_BYTES * (params(layers) + 2 * sum(map(_norm_channels, layers)))


ADDITIVE: dict[str, Callable[[Sequence[Layer]], int]] = {
    "macs": macs,
    "macs_paper": macs_paper,
    "params": params,
    "weight_bytes": weight_bytes,
}
"""Costs that add up over the parts of a network."""


def memory_profile(layers: Sequence[Layer]) -> list[int]:
    """Return the bytes of all live tensors while each layer runs.

    Live are the layer's input and output, and every earlier output that is still read or added later or is a result of
    the network. Batch norm, activation and addition work in place.

    Args:
        layers: All layers of a network.
    """
    last_use: dict[str, int] = {}
    for step, layer in enumerate(layers):
        last_use |= {name: step for name in (layer.reads, layer.adds) if name is not None}
    alive = {IMAGE: layers[0].in_channels * layers[0].input_size ** 2}
    profile = []
    for step, layer in enumerate(layers):
        alive[layer.name] = layer.out_channels * layer.output_size**2
        profile.append(FLOAT_BYTES * sum(alive.values()))
        for name in {layer.reads, layer.adds} - {None}:
            if last_use[str(name)] == step:
                del alive[str(name)]
    return profile


def params_and_macs(arch: Arch, num_keypoints: int) -> dict[str, int]:
    """Return the costs that an exported model records, by name."""
    walk = layers(arch, num_keypoints)
    return {"params": params(walk), "macs": macs(walk)}


def _macs(layer: Layer, size: int) -> int:
    return _weights(layer) * size**2


def _weights(layer: Layer) -> int:
    return layer.kernel_size**2 * layer.in_channels // layer.groups * layer.out_channels


def _norm_channels(layer: Layer) -> int:
    return layer.norm_activation[0] * layer.out_channels
