"""Sums of figures of blocks for many archs at once, from their genes (numpy only)."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from supernet.costs.latency_blocks import (
    BACKBONE_STRIDES,
    LEVEL_STRIDES,
    Block,
    Bottleneck,
    Deconv,
    PredictionHead,
    Stem,
    backbone_widths,
    num_outputs,
    refined_widths,
)
from supernet.errors import UserError
from supernet.space import SearchSpace

Floats: TypeAlias = npt.NDArray[np.float64]
Figure = Callable[[Block], float]


class LatencyGrid:
    """One array a place in the network, indexed by the genes that decide which block stands there.

    Args:
        space: Whose genes are summed.
        num_keypoints: Of the network.
        figure: Returns the figure of a block.
    """

    def __init__(self, space: SearchSpace, num_keypoints: int, figure: Figure) -> None:
        self._space = space
        self._depths = [stage.depths[-1] for stage in space.stages]
        self.num_columns = 2 + sum(2 + 2 * depth for depth in self._depths) + len(space.deconv_widths)
        widths, resolutions = backbone_widths(space), space.resolutions
        self._stem = _tabulate(lambda r, width: figure(Stem(width, r)), resolutions, space.stem_widths)
        self._first, self._later = [], []
        for i, stage in enumerate(space.stages):
            shapes = (stage.widths, stage.expand_ratios, stage.kernel_sizes)
            first, other = _first_block(figure, i, stage.stride), _later_block(figure, i, stage.stride)
            self._first.append(_tabulate(first, resolutions, widths[i], *shapes))
            # Absent blocks have the genes -1, which is the last place: one more of either, where nothing is added.
            later = np.zeros([len(each) + 1 for each in (resolutions, *shapes)])
            if self._depths[i] > 1:
                later[:-1, :-1, :-1, :-1] = _tabulate(other, resolutions, *shapes)
            self._later.append(later)
        self._deconv, self._prediction = [], []
        for level, outputs in enumerate(space.deconv_widths):
            refined, skip = refined_widths(space)[level], widths[3 - level]
            self._deconv.append(_tabulate(_level(figure, level), resolutions, refined, skip, outputs))
            if level > 0:
                predicted = _prediction(figure, level, num_outputs(level, num_keypoints))
                self._prediction.append(_tabulate(predicted, resolutions, outputs, widths[2 - level]))

    def sums(self, genes: npt.NDArray[Any]) -> tuple[Floats, Floats]:
        """Return the sums over the blocks of the backbone and over those of the head, (N,) each.

        Args:
            genes: (N, G) as :meth:`supernet.space.SearchSpace.encode` returns them.

        Raises:
            UserError: ``genes`` has another number of columns.
        """
        if genes.ndim != 2 or genes.shape[1] != self.num_columns:
            raise UserError(
                f"the genes have the shape {genes.shape}, those of space {self._space.name} have "
                f"(N, {self.num_columns}); encode the archs with this space"
            )
        columns = iter(genes.T)
        resolution, stem = next(columns), next(columns)
        backbone, widths = self._stem[resolution, stem], [stem]
        for first, later, depth in zip(self._first, self._later, self._depths, strict=True):
            width, _ = next(columns), next(columns)
            backbone = backbone + first[resolution, widths[-1], width, next(columns), next(columns)]
            for _ in range(depth - 1):
                backbone += later[resolution, width, next(columns), next(columns)]
            widths.append(width)
        refined, head = widths[-1], np.zeros(len(genes))
        for level, deconv in enumerate(self._deconv):
            width = next(columns)
            head += deconv[resolution, refined, widths[3 - level], width]
            if level > 0:
                head += self._prediction[level - 1][resolution, width, widths[2 - level]]
            refined = width
        return backbone, head


def _first_block(figure: Figure, stage: int, stride: int) -> Callable[..., float]:
    def of(resolution: int, in_width: int, width: int, ratio: int, kernel_size: int) -> float:
        size = resolution // BACKBONE_STRIDES[stage]
        return figure(Bottleneck(in_width, width, stride, ratio, kernel_size, size))

    return of


def _later_block(figure: Figure, stage: int, stride: int) -> Callable[..., float]:
    def of(resolution: int, width: int, ratio: int, kernel_size: int) -> float:
        return figure(Bottleneck(width, width, 1, ratio, kernel_size, resolution // BACKBONE_STRIDES[stage] // stride))

    return of


def _level(figure: Figure, level: int) -> Callable[..., float]:
    def of(resolution: int, in_width: int, skip_width: int, width: int) -> float:
        return figure(Deconv(in_width, skip_width, width, resolution // LEVEL_STRIDES[level]))

    return of


def _prediction(figure: Figure, level: int, outputs: int) -> Callable[..., float]:
    def of(resolution: int, in_width: int, skip_width: int) -> float:
        return figure(PredictionHead(in_width, skip_width, outputs, 2 * (resolution // LEVEL_STRIDES[level])))

    return of


def _tabulate(figure: Callable[..., float], *choices: tuple[int, ...]) -> Floats:
    """Return the array of ``figure`` of every combination of choices."""
    shape = [len(each) for each in choices]
    found = [figure(*(each[i] for each, i in zip(choices, place, strict=True))) for place in np.ndindex(*shape)]
    return np.array(found, np.float64).reshape(shape)
