"""Analytic costs of archs: multiply-adds by two rules, parameters, memory and weights (no torch)."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from supernet.arch import Arch, layers
from supernet.costs import analytic
from supernet.costs.cost_tables import Integers, cost_tables
from supernet.space import SearchSpace


def macs(arch: Arch, num_keypoints: int) -> int:
    """Multiply-adds performed by all convolutions for one square input, each counted once."""
    return analytic.macs(layers(arch, num_keypoints))


def macs_paper(arch: Arch, num_keypoints: int) -> int:
    """Multiply-adds by the rules of LitePose's published table (XS 1.2 G, S 5.0 G, M 7.8 G, L 13.7 G).

    These count transposed convolutions at their output positions (four times the multiply-adds performed at stride 2)
    and add 2 per batch-norm element and 1 per activation element.
    """
    return analytic.macs_paper(layers(arch, num_keypoints))


def params(arch: Arch, num_keypoints: int) -> int:
    """Trainable parameters: convolution weights and batch-norm scales and shifts."""
    return analytic.params(layers(arch, num_keypoints))


def memory(arch: Arch, num_keypoints: int) -> int:
    """Peak activation bytes: float32, one square input at the arch's resolution.

    Layers run in the order of :func:`supernet.arch.layers`; batch norm, activation and addition work in place, as in
    runtimes that fold them. The peak is the maximum over all layers. While a layer runs, these are alive:

    - its input and its output,
    - every earlier output that is still read or added later: a block's input until its residual is added, the stem and
      stages 0 to 2 until the head reads them, one branch of the head until the other is added to it,
    - ``low``, once it is computed; ``high`` is the last layer's output.

    The image counts as the first layer's input. Weights and scratch memory of kernels do not count. A runtime that
    reorders or tiles layers may need less; one that does not fold needs more.
    """
    return max(analytic.memory_profile(layers(arch, num_keypoints)))


def weight_bytes(arch: Arch, num_keypoints: int) -> int:
    """Bytes of all float32 entries of the state dict: parameters and the batch norms' running means and variances.

    The batch norms' batch counters, which no forward pass reads, do not count.
    """
    return analytic.weight_bytes(layers(arch, num_keypoints))


COSTS: dict[str, Callable[[Arch, int], int]] = {
    "macs": macs,
    "macs_paper": macs_paper,
    "params": params,
    "weight_bytes": weight_bytes,
    "memory": memory,
}
"""Every analytic cost."""


def costs(space: SearchSpace, genes: NDArray[Any], num_keypoints: int) -> dict[str, Integers]:
    """Return all costs of many archs; they equal those of :data:`COSTS`.

    Args:
        space: The space of the genes.
        genes: (N, G), see :mod:`supernet.genes`.
        num_keypoints: K.

    Returns:
        int64 (N,) by the names of :data:`COSTS`.

    Raises:
        UserError: Genes outside the space.
    """
    return cost_tables(space, num_keypoints)(space.layout.checked(genes))


def arch_costs(arch: Arch, num_keypoints: int) -> dict[str, int]:
    """Return all costs of one arch by name."""
    walk = layers(arch, num_keypoints)
    additive = {name: cost(walk) for name, cost in analytic.ADDITIVE.items()}
    return additive | {"memory": max(analytic.memory_profile(walk))}
