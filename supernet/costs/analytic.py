"""What a run of layers costs, from the one walk over the layers of an arch (no torch)."""

from collections.abc import Callable, Sequence

from supernet.arch import IMAGE, Layer

FLOAT_BYTES = 4


def macs(layers: Sequence[Layer]) -> int:
    """Multiply-adds performed, each counted once."""
    return sum(_macs(layer, layer.input_size if layer.transposed else layer.output_size) for layer in layers)


def macs_paper(layers: Sequence[Layer]) -> int:
    """Multiply-adds in LitePose's published counting; see :func:`search.cost.macs_paper`."""
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
    """Bytes of parameters and of the batch norms' running means and variances."""
    return FLOAT_BYTES * (params(layers) + 2 * sum(map(_norm_channels, layers)))


ADDITIVE: dict[str, Callable[[Sequence[Layer]], int]] = {
    "macs": macs,
    "macs_paper": macs_paper,
    "params": params,
    "weight_bytes": weight_bytes,
}
"""Costs of a network that are the sums of those of its parts."""


def memory_profile(layers: Sequence[Layer]) -> list[int]:
    """Return for each of all layers of a network the bytes of the tensors alive while it is computed.

    These are what it reads, what it writes, and whatever was written before and is still read or added later, or is
    one of the network's results. Batch norm, activation and addition happen in place.
    """
    last_use: dict[str, int] = {}
    for step, layer in enumerate(layers):
        last_use |= {name: step for name in (layer.reads, layer.adds) if name is not None}
    alive = {IMAGE: layers[0].in_channels * layers[0].input_size ** 2}
    found = []
    for step, layer in enumerate(layers):
        alive[layer.name] = layer.out_channels * layer.output_size**2
        found.append(FLOAT_BYTES * sum(alive.values()))
        for name in {layer.reads, layer.adds} - {None}:
            if last_use[str(name)] == step:
                del alive[str(name)]
    return found


def _macs(layer: Layer, size: int) -> int:
    return _weights(layer) * size**2


def _weights(layer: Layer) -> int:
    return layer.kernel_size**2 * layer.in_channels // layer.groups * layer.out_channels


def _norm_channels(layer: Layer) -> int:
    return layer.norm_activation[0] * layer.out_channels
