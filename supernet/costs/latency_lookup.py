"""Sums a number per block over the blocks of many archs at once, from their genes (numpy only)."""

from collections.abc import Callable
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from supernet.arch import BACKBONE_STRIDES, HEAD, HeadLevel, HeadPrediction
from supernet.costs.latency_blocks import Block, Bottleneck, Deconv, PredictionHead, Stem, backbone_widths
from supernet.errors import UserError
from supernet.space import SearchSpace

Floats: TypeAlias = npt.NDArray[np.float64]
Figure = Callable[[Block], float]


class LatencyGrid:
    """One array per position in the network, indexed by the genes that choose the block at that position.

    Args:
        space: The space of the genes.
        num_keypoints: K.
        figure: Returns the number to sum of a block.
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
            first, other = _first_block(figure, i, stage.stride), _later_block(figure, i)
            self._first.append(_tabulate(first, resolutions, widths[i], *shapes))
            # The genes of absent blocks are -1, which index the additional last entries, which hold 0.
            later = np.zeros([len(choices) + 1 for choices in (resolutions, *shapes)])
            if self._depths[i] > 1:
                later[:-1, :-1, :-1, :-1] = _tabulate(other, resolutions, *shapes)
            self._later.append(later)
        self._deconv, self._prediction = [], []
        refined = widths[-1]
        for level, outputs in zip(HEAD, space.deconv_widths, strict=True):
            self._deconv.append(_tabulate(_level(figure, level), resolutions, refined, widths[level.skip], outputs))
            if (last := level.prediction) is not None:
                prediction = _prediction(figure, level, last, num_keypoints)
                self._prediction.append(_tabulate(prediction, resolutions, outputs, widths[last.skip]))
            refined = outputs

    def sums(self, genes: npt.NDArray[Any]) -> tuple[Floats, Floats]:
        """Return the sums over the blocks of the backbone and over those of the head, each (N,).

        Args:
            genes: (N, G) as :meth:`supernet.space.SearchSpace.encode` returns them.

        Raises:
            UserError: ``genes`` has the wrong number of columns.
        """
        if genes.ndim != 2 or genes.shape[1] != self.num_columns:
            raise UserError(
                f"genes of space {self._space.name} must have the shape (N, {self.num_columns}), got {genes.shape}; "
                "encode the archs with this space"
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
        for level, deconv in zip(HEAD, self._deconv, strict=True):
            width = next(columns)
            head += deconv[resolution, refined, widths[level.skip], width]
            if (last := level.prediction) is not None:
                head += self._prediction[last.index][resolution, width, widths[last.skip]]
            refined = width
        return backbone, head


def _first_block(figure: Figure, stage: int, stride: int) -> Callable[..., float]:
    def of(resolution: int, in_width: int, width: int, ratio: int, kernel_size: int) -> float:
        size = resolution // BACKBONE_STRIDES[stage]
        return figure(Bottleneck(in_width, width, stride, ratio, kernel_size, size))

    return of


def _later_block(figure: Figure, stage: int) -> Callable[..., float]:
    def of(resolution: int, width: int, ratio: int, kernel_size: int) -> float:
        return figure(Bottleneck(width, width, 1, ratio, kernel_size, resolution // BACKBONE_STRIDES[stage + 1]))

    return of


def _level(figure: Figure, level: HeadLevel) -> Callable[..., float]:
    def of(resolution: int, in_width: int, skip_width: int, width: int) -> float:
        return figure(Deconv(in_width, skip_width, width, resolution // level.input_stride))

    return of


def _prediction(
    figure: Figure, level: HeadLevel, prediction: HeadPrediction, num_keypoints: int
) -> Callable[..., float]:
    outputs = prediction.num_maps(num_keypoints)

    def of(resolution: int, in_width: int, skip_width: int) -> float:
        return figure(PredictionHead(in_width, skip_width, outputs, 2 * (resolution // level.input_stride)))

    return of


def _tabulate(figure: Callable[..., float], *choices: tuple[int, ...]) -> Floats:
    """Return ``figure`` of every combination of choices, with one axis per argument."""
    return np.array([figure(*combination) for combination in product(*choices)], np.float64).reshape(
        [len(values) for values in choices]
    )
