"""Costs of many archs at once, by looking up what their parts cost (no torch).

A network falls into parts that depend on few choices each: stem, first block of a stage, later blocks of a stage, and
the levels of the head. What a part costs for each of its choices is read off the one walk over the layers, of archs
made for it. Additive costs are sums over the parts. Memory is the greatest of what is alive in a part: its own tensors
and the skip tensors that only wait for the head meanwhile. Resolutions are multiples of the network's total stride, so
that every map's size, and with it every cost of computing, grows with the square of the resolution: one is enough.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from supernet.arch import Arch, layers
from supernet.costs.analytic import ADDITIVE, FLOAT_BYTES, memory_profile
from supernet.genes import GeneLayout, Genes
from supernet.space import SearchSpace

_CHUNK = 2048  # rows whose intermediate arrays stay in a core's cache
_UNIT = 16  # px: the resolution of the tables
_SKIP_ELEMENTS = tuple((_UNIT // stride) ** 2 for stride in (2, 4, 8, 16))  # s0 to s3, a channel
_NAMES = (*ADDITIVE, "memory")
_PEAK = _NAMES.index("memory")
_GROWING = [_NAMES.index(name) for name in ("macs", "macs_paper", "memory")]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class _Part:
    """Layers of one or more name prefixes, and what they depend on.

    Attributes:
        prefixes: Of layer names.
        columns: Genes that decide what the part costs, besides the resolution.
        num_skips: How many skips (s0, s1, ...) are alive all through the part whatever its ``columns`` say; they are
            left out of its table and added for each arch.
    """

    prefixes: tuple[str, ...]
    columns: tuple[int, ...]
    num_skips: int


class CostTables:
    """Tables (costs, choices) of the parts of one space; :func:`cost_tables` keeps them."""

    def __init__(self, space: SearchSpace, num_keypoints: int) -> None:
        self._layout = space.layout
        # The same choices with fewer blocks: a first and one that stands for all later ones.
        stages = tuple(replace(stage, depths=(1, 2)) for stage in space.stages)
        probed = replace(space, resolutions=(_UNIT,), stages=stages)
        self._tables = [_table(probed, part, num_keypoints) for part in _once(probed.layout)]
        self._later_tables = [
            _with_absent(_table(probed, part, num_keypoints), len(stage.expand_ratios) * len(stage.kernel_sizes))
            for part, stage in zip(_later(probed.layout), space.stages, strict=True)
        ]
        widths = (space.stem_widths, *(stage.widths for stage in space.stages[:3]))
        self._skip_bytes = [
            FLOAT_BYTES * elements * np.array(choices) for choices, elements in zip(widths, _SKIP_ELEMENTS, strict=True)
        ]
        self._scales = (np.array(space.resolutions) // _UNIT) ** 2

    def __call__(self, genes: Genes) -> dict[str, Integers]:
        """Return the costs (N,) by name of rows (N, G) in their one form (``GeneLayout.checked``)."""
        found = np.zeros((len(_NAMES), len(genes)), np.int64)
        for start in range(0, len(genes), _CHUNK):
            rows = slice(start, start + _CHUNK)
            self._look_up(genes[rows].T.astype(np.intp), found[:, rows])
        found[_GROWING] *= self._scales[genes[:, self._layout.resolution]]
        return dict(zip(_NAMES, found, strict=True))

    def _look_up(self, genes: NDArray[np.intp], found: Integers) -> None:
        """Fill ``found`` (costs, N), at the resolution of the tables, from ``genes`` (G, N)."""
        columns = (self._layout.stem_width, *(stage.width for stage in self._layout.stages[:3]))
        skips = [table[genes[c]] for table, c in zip(self._skip_bytes, columns, strict=True)]
        waiting = [np.zeros_like(skips[0]), *np.cumsum(skips, axis=0)]
        for part, table in zip(_once(self._layout), self._tables, strict=True):
            costs = table[:, self._index(genes, part.columns)]
            found[:_PEAK] += costs[:_PEAK]
            np.maximum(found[_PEAK], costs[_PEAK] + waiting[part.num_skips], out=found[_PEAK])
        for i, (stage, table) in enumerate(zip(self._layout.stages, self._later_tables, strict=True)):
            if len(stage.blocks) == 1:
                continue
            first, last = stage.blocks[1], stage.blocks[-1] + 1
            ratios, kernel_sizes = genes[first:last:2], genes[first + 1 : last + 1 : 2]
            num_ratios, num_kernel_sizes = self._layout.num_choices[stage.blocks[0] : stage.blocks[0] + 2].tolist()
            num_blocks = num_ratios * num_kernel_sizes
            block = np.where(ratios < 0, num_blocks, ratios * num_kernel_sizes + kernel_sizes)
            index = genes[stage.width] * (num_blocks + 1) + block
            for cost in range(_PEAK):
                found[cost] += table[cost].take(index).sum(axis=0)
            peak = table[_PEAK].take(index).max(axis=0) + waiting[i + 1]
            np.maximum(found[_PEAK], peak, out=found[_PEAK])

    def _index(self, genes: NDArray[np.intp], columns: tuple[int, ...]) -> NDArray[np.intp]:
        """Return where in a flat table with one dimension a column the rows are found."""
        shape = tuple(self._layout.num_choices[list(columns)].tolist())
        found: NDArray[np.intp] = np.ravel_multi_index(tuple(genes[c] for c in columns), shape)
        return found


@lru_cache(maxsize=8)
def cost_tables(space: SearchSpace, num_keypoints: int) -> CostTables:
    """Return the tables of a space, built once (a fraction of a second for the full space)."""
    return CostTables(space, num_keypoints)


def _once(layout: GeneLayout) -> list[_Part]:
    """Parts that every arch has exactly once."""
    widths = (layout.stem_width, *(stage.width for stage in layout.stages))
    found = [_Part(("first.",), (layout.stem_width,), 0)]
    for i, stage in enumerate(layout.stages):
        columns = (widths[i], stage.width, stage.blocks[0], stage.blocks[0] + 1)
        found.append(_Part((f"stage.{i}.0.",), columns, i + 1))
    deconv = layout.deconv_widths
    return [
        *found,
        _Part(_level(0), (widths[4], widths[3], deconv[0]), 3),
        _Part(_level(1), (widths[2], widths[1], deconv[0], deconv[1]), 1),
        _Part(_level(2), (widths[1], widths[0], deconv[1], deconv[2]), 0),
    ]


def _later(layout: GeneLayout) -> list[_Part]:
    """The second block of each stage, which is as any later one."""
    return [
        _Part((f"stage.{i}.1.",), (stage.width, stage.blocks[1], stage.blocks[1] + 1), i + 1)
        for i, stage in enumerate(layout.stages)
    ]


def _level(level: int) -> tuple[str, ...]:
    names = (f"deconv_refined.{level}", f"deconv_raw.{level}")
    return names if level == 0 else (*names, f"final_refined.{level - 1}.", f"final_raw.{level - 1}.")


def _table(space: SearchSpace, part: _Part, num_keypoints: int) -> Integers:
    """Return the costs (costs, choices) of ``part`` for all its choices, the last column's varying fastest."""
    layout = space.layout
    columns = list(part.columns)
    choices = np.array(list(product(*(range(layout.num_choices[c]) for c in columns))), np.int16)
    genes = np.zeros((len(choices), len(layout.names)), np.int16)
    if any(name.startswith("stage.") and name.endswith(".1.") for name in part.prefixes):
        genes[:, [stage.depth for stage in layout.stages]] = 1
    genes[:, columns] = choices
    return np.array([_part_costs(arch, part, num_keypoints) for arch in space.decode(genes)]).T


def _part_costs(arch: Arch, part: _Part, num_keypoints: int) -> list[int]:
    """Return the additive costs of ``part`` in ``arch`` and the most that is alive in it, less ``part.num_skips``."""
    whole = layers(arch, num_keypoints)
    steps = [step for step, layer in enumerate(whole) if layer.name.startswith(part.prefixes)]
    inside = [whole[step] for step in steps]
    profile = memory_profile(whole)
    widths = (arch.stem_width, *(stage.width for stage in arch.stages[:3]))
    skips = [width * elements for width, elements in zip(widths, _SKIP_ELEMENTS, strict=True)]
    waiting = FLOAT_BYTES * sum(skips[: part.num_skips])
    return [*(cost(inside) for cost in ADDITIVE.values()), max(profile[step] for step in steps) - waiting]


def _with_absent(table: Integers, num_blocks: int) -> Integers:
    """Add to each width an entry for a block that is not there, which costs nothing."""
    entries = table.reshape(len(table), -1, num_blocks)
    return np.pad(entries, ((0, 0), (0, 0), (0, 1))).reshape(len(table), -1)
