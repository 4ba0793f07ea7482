"""What a predictor sees of an arch: numbers made from its genes (no torch)."""

import numpy as np
from numpy.typing import NDArray

from supernet.arch import DECONV_KERNEL_SIZE
from supernet.genes import Genes
from supernet.space import SearchSpace

Floats = NDArray[np.float64]


def gene_values(space: SearchSpace, genes: Genes) -> Floats:
    """Return the chosen values, (N, G); blocks past the depth have expand ratio and kernel size 0."""
    # Index ABSENT, which is -1, picks the 0 at the end.
    columns = [np.array([*choices, 0.0])[genes[:, i]] for i, choices in enumerate(space.layout.choices)]
    return np.stack(columns, axis=1)


def one_hot(space: SearchSpace, genes: Genes) -> Floats:
    """Return a 1 for each chosen value among 0s, (N, choices of all columns and one for an absent block each)."""
    return np.hstack([np.eye(len(choices) + 1)[genes[:, i]] for i, choices in enumerate(space.layout.choices)])


def features(space: SearchSpace, genes: Genes) -> Floats:
    """Return the features of archs, (N, F).

    Sizes are logarithms, since doubling a width gains about as much from 16 as from 64. A block gives its expand ratio
    and kernel size less the mean of the choices, and 0 where it is absent, so that its presence is the depth's matter
    alone. Sums over a stage and the multiply-adds of stages, deconvolutions and both together are added: most of the
    score goes with them, and a linear function cannot form them.

    Args:
        space: Of the archs.
        genes: Rows of ``space.encode``, (N, G).
    """
    layout, values, macs = space.layout, gene_values(space, genes), work(space, genes)
    once = values[:, [layout.resolution, layout.stem_width, *layout.deconv_widths]]
    parts = [np.log2(np.hstack([once, macs, macs.sum(axis=1, keepdims=True)]))]
    for stage, columns in zip(space.stages, layout.stages, strict=True):
        ratios, kernels = values[:, columns.blocks], values[:, np.add(columns.blocks, 1)]
        present = ratios > 0
        ratios_off = np.where(present, ratios - np.mean(stage.expand_ratios), 0)
        kernels_off = np.where(present, kernels - np.mean(stage.kernel_sizes), 0)
        sums = [each.sum(axis=1, keepdims=True) for each in (ratios, kernels, ratios_off, kernels_off)]
        depth = values[:, [columns.depth]]
        parts += [np.log2(values[:, [columns.width]]), np.log2(depth), depth, ratios_off, kernels_off, *sums]
    return np.hstack(parts)


def work(space: SearchSpace, genes: Genes) -> Floats:
    """Return the multiply-adds of each stage's blocks and each level's deconvolutions, (N, stages + levels)."""
    layout, values = space.layout, gene_values(space, genes)
    size, width = values[:, layout.resolution] / 2, values[:, layout.stem_width]  # of the maps after the stem
    found, skips = [], []
    for stage, columns in zip(space.stages, layout.stages, strict=True):
        ratios, kernels = values[:, columns.blocks], values[:, np.add(columns.blocks, 1)]
        out = values[:, [columns.width]]
        inputs = np.repeat(out, ratios.shape[1], axis=1)
        inputs[:, 0] = width
        hidden = inputs * ratios
        before, size = size, size / stage.stride
        after = (hidden * (kernels**2 + out)).sum(axis=1) + (hidden * inputs)[:, 1:].sum(axis=1)
        found.append(before**2 * hidden[:, 0] * inputs[:, 0] + size**2 * after)
        skips.append(width)
        width = out[:, 0]
    for column, skip in zip(layout.deconv_widths, skips[:0:-1], strict=True):
        found.append(size**2 * DECONV_KERNEL_SIZE**2 * (width + skip) * values[:, column])
        size, width = 2 * size, values[:, column]
    return np.stack(found, axis=1)
