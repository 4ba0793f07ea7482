"""Genes: archs as rows of small whole numbers, for code that handles many of them at once (no torch).

A gene is the index of a value among its choices. A row holds the resolution, the stem width, then for each stage its
width, its depth and (expand ratio, kernel size) of every block up to the greatest depth, then the deconvolution
widths. Blocks past the depth are not part of an arch. They hold ``ABSENT``, so that two archs are equal if and only if
their rows are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.arch import Arch, Stage
from supernet.errors import UserError
from supernet.stage_choices import StageChoices, check_value

ABSENT = -1
"""Gene of a block past the depth of its stage."""

Genes = NDArray[np.int16]
_RESOLUTION, _STEM_WIDTH = 0, 1


@dataclass(frozen=True)
class StageColumns:
    """Columns of one stage; block ``j`` has its expand ratio in ``blocks[j]`` and its kernel size in the next."""

    width: int
    depth: int
    blocks: tuple[int, ...]


class GeneLayout:
    """The meaning of each column of a gene row of one space.

    Attributes:
        names: (G,) name of each column, such as "stage 1, block 2: kernel size".
        choices: (G,) the values that the column's genes index, ascending.
        num_choices: (G,) number of choices.
        resolution: Column of the resolution.
        stem_width: Column of the stem width.
        stages: Columns of each stage.
        deconv_widths: Column of each level of the head.
    """

    def __init__(
        self,
        resolutions: tuple[int, ...],
        stem_widths: tuple[int, ...],
        stages: Sequence[StageChoices],
        deconv_widths: Sequence[tuple[int, ...]],
    ) -> None:
        self.resolution, self.stem_width = _RESOLUTION, _STEM_WIDTH
        named = [("resolution", resolutions), ("stem width", stem_widths)]
        columns: list[StageColumns] = []
        owner: dict[int, tuple[int, int]] = {}
        for i, stage in enumerate(stages):
            start, deepest = len(named), stage.depths[-1]
            named += [(f"stage {i}: width", stage.widths), (f"stage {i}: depth", stage.depths)]
            columns.append(StageColumns(start, start + 1, tuple(start + 2 + 2 * j for j in range(deepest))))
            for j in range(deepest):
                owner |= {len(named): (i, j), len(named) + 1: (i, j)}
                named.append((f"stage {i}, block {j}: expand ratio", stage.expand_ratios))
                named.append((f"stage {i}, block {j}: kernel size", stage.kernel_sizes))
        self.stages = tuple(columns)
        self.deconv_widths = tuple(range(len(named), len(named) + len(deconv_widths)))
        named += [(f"deconv {i}: width", widths) for i, widths in enumerate(deconv_widths)]
        self.names = tuple(name for name, _ in named)
        self.choices = tuple(choices for _, choices in named)
        self.num_choices = np.array([len(choices) for choices in self.choices], np.int16)
        self._strides = tuple(stage.stride for stage in stages)
        self._depths = [np.array(stage.depths, np.int16) for stage in stages]
        self._values = np.zeros((len(named), int(self.num_choices.max())), np.int64)
        for row, choices in zip(self._values, self.choices, strict=True):
            row[: len(choices)] = choices
        owners = [owner.get(column, (0, ABSENT)) for column in range(len(named))]
        self._stage_of = np.array([stage for stage, _ in owners])
        self._block_of = np.array([block for _, block in owners], np.int16)

    def encode(self, archs: Iterable[Arch]) -> Genes:
        """Return one row per arch, (N, G).

        Raises:
            UserError: An arch is outside the space; the message names the first such value.
        """
        rows = [self._row(arch) for arch in archs]
        values = np.array(rows, np.int64).reshape(len(rows), len(self.names))
        genes = np.empty(values.shape, np.int16)
        for column, choices in enumerate(self.choices):
            genes[:, column] = np.searchsorted(choices, values[:, column]).clip(max=len(choices) - 1)
        absent = values == 0
        encoded = self._values[np.arange(len(self.names)), genes]
        for row, column in np.argwhere((encoded != values) & ~absent)[:1]:
            check_value(self.names[column], int(values[row, column]), self.choices[column])
        genes[absent] = ABSENT
        return genes

    def decode(self, genes: NDArray[Any]) -> list[Arch]:
        """Return the arch of each row; genes of blocks past the depth are ignored.

        Raises:
            UserError: See :meth:`checked`.
        """
        values = self._values[np.arange(len(self.names)), self.checked(genes)]
        return [self._arch(row) for row in values.tolist()]

    def checked(self, genes: NDArray[Any]) -> Genes:
        """Return ``genes`` in canonical form: ``ABSENT`` in the columns of blocks past the depth.

        Args:
            genes: (N, G) of any integer type.

        Raises:
            UserError: Wrong shape or type, or a gene that indexes no choice; the message names its row and column.
        """
        genes = np.asarray(genes)
        if genes.ndim != 2 or genes.shape[1] != len(self.names) or not np.issubdtype(genes.dtype, np.integer):
            raise UserError(
                f"genes of this space must be whole numbers of shape (N, {len(self.names)}), "
                f"got {genes.dtype} of shape {genes.shape}"
            )
        present = self.present(genes)
        wrong = present & ((genes < 0) | (genes >= self.num_choices))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            choices = ", ".join(map(str, self.choices[column]))
            raise UserError(
                f"{self.names[column]}: the gene in row {row} must be from 0 to {self.num_choices[column] - 1}, "
                f"an index into {choices}, got {genes[row, column]}"
            )
        return np.where(present, genes, ABSENT).astype(np.int16)

    def present(self, genes: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each gene (N, G) is part of its arch: false for blocks past the depth."""
        depths = np.stack(
            [
                values[np.clip(genes[:, columns.depth], 0, len(values) - 1)]
                for columns, values in zip(self.stages, self._depths, strict=True)
            ],
            axis=1,
        )
        present: NDArray[np.bool_] = depths[:, self._stage_of] > self._block_of
        return present

    def sample(self, rng: np.random.Generator, num: int) -> Genes:
        """Draw ``num`` rows, every choice independently and uniformly, like ``SearchSpace.sample``."""
        return self.checked(rng.integers(0, self.num_choices, (num, len(self.names)), np.int16))

    def _row(self, arch: Arch) -> list[int]:
        """Return the values of ``arch`` by column, 0 for absent blocks."""
        row = [arch.resolution, arch.stem_width]
        for stage, columns in zip(arch.stages, self.stages, strict=True):
            check_value(self.names[columns.depth], stage.depth, self.choices[columns.depth])
            row += [stage.width, stage.depth, *chain.from_iterable(stage.blocks())]
            row += [0] * (2 * (len(columns.blocks) - stage.depth))
        return row + list(arch.deconv_widths)

    def _arch(self, row: list[int]) -> Arch:
        stages = []
        for columns, stride in zip(self.stages, self._strides, strict=True):
            blocks = columns.blocks[: row[columns.depth]]
            ratios, kernel_sizes = tuple(row[c] for c in blocks), tuple(row[c + 1] for c in blocks)
            stages.append(Stage(row[columns.width], stride, ratios, kernel_sizes))
        return Arch(row[_RESOLUTION], row[_STEM_WIDTH], tuple(stages), tuple(row[c] for c in self.deconv_widths))
