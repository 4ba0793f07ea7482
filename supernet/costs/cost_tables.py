"""Costs of many archs at once, by looking up the costs of their parts (no torch).

A network is divided into parts that depend on few choices each: the stem, the first block of a stage, the later blocks
of a stage, and the deconvolutions and predictions of the head. The table of a part holds its costs for all its choices,
read off the layers of archs built for this purpose. Additive costs are sums over the parts. Memory is the maximum over
the parts of the tensors alive in each: its own, and the backbone outputs that wait for the head meanwhile. Resolutions
are multiples of the network's total stride, so the size of every map, and with it every cost of computing, grows with
the square of the resolution, and tables of one resolution are enough.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from supernet.arch import BACKBONE_STRIDES, HEAD, Arch, layers
from supernet.costs.analytic import ADDITIVE, FLOAT_BYTES, memory_profile
from supernet.genes import GeneLayout, Genes
from supernet.space import SearchSpace

_CHUNK = 2048  # rows whose intermediate arrays fit in a core's cache
_UNIT = BACKBONE_STRIDES[-1]  # px: the resolution of the tables
_SKIP_ELEMENTS = tuple((_UNIT // stride) ** 2 for stride in BACKBONE_STRIDES[:-1])  # per channel of s0 to s3
_NAMES = (*ADDITIVE, "memory")
_MACS, _PEAK = _NAMES.index("macs"), _NAMES.index("memory")
_GROWING = [_NAMES.index(name) for name in ("macs", "macs_paper", "memory")]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class _Part:
    """Layers of one or more name prefixes, and the choices that they depend on.

    Attributes:
        prefixes: Of layer names.
        columns: Genes that decide the costs of the part, besides the resolution.
        num_skips: Number of backbone outputs (s0, s1, ...) that are alive throughout the part regardless of its
            ``columns``; they are left out of its table and added for each arch.
    """

    prefixes: tuple[str, ...]
    columns: tuple[int, ...]
    num_skips: int


class CostTables:
    """Tables (costs, choices) of the parts of one space; :func:`cost_tables` caches them."""

    def __init__(self, space: SearchSpace, num_keypoints: int) -> None:
        self._layout = space.layout
        # The same choices with at most two blocks per stage: a first one, and one in place of all later ones.
        stages = tuple(replace(stage, depths=(1, 2)) for stage in space.stages)
        probed = replace(space, resolutions=(_UNIT,), stages=stages)
        self._tables = [_table(probed, part, num_keypoints) for part in _single_parts(probed.layout)]
        self._later_tables = [
            _with_absent(_table(probed, part, num_keypoints), len(stage.expand_ratios) * len(stage.kernel_sizes))
            for part, stage in zip(_later_blocks(probed.layout), space.stages, strict=True)
        ]
        widths = (space.stem_widths, *(stage.widths for stage in space.stages[:-1]))
        self._skip_bytes = [
            FLOAT_BYTES * elements * np.array(choices) for choices, elements in zip(widths, _SKIP_ELEMENTS, strict=True)
        ]
        self._scales = (np.array(space.resolutions) // _UNIT) ** 2

    def __call__(self, genes: Genes) -> dict[str, Integers]:
        """Return the costs (N,) by name of canonical genes (N, G), see ``GeneLayout.checked``."""
        costs = np.zeros((len(_NAMES), len(genes)), np.int64)
        for start in range(0, len(genes), _CHUNK):
            rows = slice(start, start + _CHUNK)
            self._look_up(genes[rows].T.astype(np.intp), costs[:, rows])
        costs[_GROWING] *= self._scales[genes[:, self._layout.resolution]]
        return dict(zip(_NAMES, costs, strict=True))

    def stage_and_deconv_macs(self, genes: Genes) -> Integers:
        """Return the multiply-adds of each stage and of each level's deconvolutions, (N, stages + levels)."""
        columns, num_stages = genes.T.astype(np.intp), len(self._layout.stages)
        parts = list(zip(_single_parts(self._layout), self._tables, strict=True))[1 : 1 + num_stages + len(HEAD)]
        macs = [table[_MACS, self._index(columns, part.columns)] for part, table in parts]
        for i in range(num_stages):
            if (index := self._later_index(columns, i)) is not None:
                macs[i] = macs[i] + self._later_tables[i][_MACS].take(index).sum(axis=0)
        scales: Integers = self._scales[genes[:, [self._layout.resolution]]]
        return np.stack(macs, axis=1) * scales

    def _look_up(self, genes: NDArray[np.intp], costs: Integers) -> None:
        """Fill ``costs`` (costs, N), at the resolution of the tables, from ``genes`` (G, N)."""
        columns = (self._layout.stem_width, *(stage.width for stage in self._layout.stages[:-1]))
        skips = [table[genes[c]] for table, c in zip(self._skip_bytes, columns, strict=True)]
        waiting = [np.zeros_like(skips[0]), *np.cumsum(skips, axis=0)]
        for part, table in zip(_single_parts(self._layout), self._tables, strict=True):
            part_costs = table[:, self._index(genes, part.columns)]
            costs[:_PEAK] += part_costs[:_PEAK]
            np.maximum(costs[_PEAK], part_costs[_PEAK] + waiting[part.num_skips], out=costs[_PEAK])
        for i, table in enumerate(self._later_tables):
            if (index := self._later_index(genes, i)) is not None:
                for cost in range(_PEAK):
                    costs[cost] += table[cost].take(index).sum(axis=0)
                peak = table[_PEAK].take(index).max(axis=0) + waiting[i + 1]
                np.maximum(costs[_PEAK], peak, out=costs[_PEAK])

    def _index(self, genes: NDArray[np.intp], columns: tuple[int, ...]) -> NDArray[np.intp]:
        """Return the positions (N,) of rows in a flat table with one dimension per column."""
        shape = tuple(self._layout.num_choices[list(columns)].tolist())
        index: NDArray[np.intp] = np.ravel_multi_index(tuple(genes[c] for c in columns), shape)
        return index

    def _later_index(self, genes: NDArray[np.intp], stage: int) -> NDArray[np.intp] | None:
        """Return the positions (blocks, N) of a stage's later blocks in their table; None if there are none."""
        columns = self._layout.stages[stage]
        if len(columns.blocks) == 1:
            return None
        first, last = columns.blocks[1], columns.blocks[-1] + 1
        ratios, kernel_sizes = genes[first:last:2], genes[first + 1 : last + 1 : 2]
        num_ratios, num_kernel_sizes = self._layout.num_choices[columns.blocks[0] : columns.blocks[0] + 2].tolist()
        num_blocks = num_ratios * num_kernel_sizes
        block = np.where(ratios < 0, num_blocks, ratios * num_kernel_sizes + kernel_sizes)
        index: NDArray[np.intp] = genes[columns.width] * (num_blocks + 1) + block
        return index


@lru_cache(maxsize=8)
def cost_tables(space: SearchSpace, num_keypoints: int) -> CostTables:
    """Return the tables of a space, built once (a fraction of a second for the full space)."""
    return CostTables(space, num_keypoints)


def _single_parts(layout: GeneLayout) -> list[_Part]:
    """Return the parts that every arch has exactly once: stem, first block of each stage, deconvolutions, predictions.

    While a part of the head runs, exactly the backbone outputs before its own skip wait.
    """
    backbone = (layout.stem_width, *(stage.width for stage in layout.stages))
    parts = [_Part(("first.",), (layout.stem_width,), 0)]
    for i, stage in enumerate(layout.stages):
        columns = (backbone[i], stage.width, stage.blocks[0], stage.blocks[0] + 1)
        parts.append(_Part((f"stage.{i}.0.",), columns, i + 1))
    refined, predictions = backbone[-1], []
    for level, width in zip(HEAD, layout.deconv_widths, strict=True):
        names = (f"deconv_refined.{level.index}", f"deconv_raw.{level.index}")
        parts.append(_Part(names, (refined, backbone[level.skip], width), level.skip))
        if level.prediction is not None:
            index, skip = level.prediction.index, level.prediction.skip
            predictions.append(_Part((f"final_refined.{index}.", f"final_raw.{index}."), (backbone[skip], width), skip))
        refined = width
    return parts + predictions


def _later_blocks(layout: GeneLayout) -> list[_Part]:
    """Return the second block of each stage, which stands for every later one."""
    return [
        _Part((f"stage.{i}.1.",), (stage.width, stage.blocks[1], stage.blocks[1] + 1), i + 1)
        for i, stage in enumerate(layout.stages)
    ]


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
    """Return the additive costs of ``part`` in ``arch`` and its peak memory without ``part.num_skips`` skips."""
    walk = layers(arch, num_keypoints)
    steps = [step for step, layer in enumerate(walk) if layer.name.startswith(part.prefixes)]
    inside = [walk[step] for step in steps]
    profile = memory_profile(walk)
    skips = [width * elements for width, elements in zip(arch.backbone_widths[:-1], _SKIP_ELEMENTS, strict=True)]
    waiting = FLOAT_BYTES * sum(skips[: part.num_skips])
    return [*(cost(inside) for cost in ADDITIVE.values()), max(profile[step] for step in steps) - waiting]


def _with_absent(table: Integers, num_blocks: int) -> Integers:
    """Add an entry of zero costs for an absent block to each width."""
    entries = table.reshape(len(table), -1, num_blocks)
    return np.pad(entries, ((0, 0), (0, 0), (0, 1))).reshape(len(table), -1)
