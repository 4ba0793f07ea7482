"""Features of archs for predictors, computed from their genes (no torch)."""

import numpy as np
from numpy.typing import NDArray

from supernet.costs.cost_tables import cost_tables
from supernet.genes import Genes
from supernet.space import SearchSpace

Floats = NDArray[np.float64]


def gene_values(space: SearchSpace, genes: Genes) -> Floats:
    """Return the chosen values (N, G); blocks past the depth have expand ratio and kernel size 0."""
    # ABSENT is -1, which indexes the 0 at the end.
    columns = [np.array([*choices, 0.0])[genes[:, i]] for i, choices in enumerate(space.layout.choices)]
    return np.stack(columns, axis=1)


def one_hot(space: SearchSpace, genes: Genes) -> Floats:
    """Return the one-hot encoding (N, F) of the genes; each column has one entry more, for an absent block."""
    return np.hstack([np.eye(len(choices) + 1)[genes[:, i]] for i, choices in enumerate(space.layout.choices)])


def features(space: SearchSpace, genes: Genes) -> Floats:
    """Return the features of archs, (N, F).

    Sizes enter as logarithms, because doubling a width gains about as much from 16 as from 64. A block contributes its
    expand ratio and kernel size minus the mean of the choices, or 0 if it is absent, so that its presence is expressed
    by the depth alone. Sums over a stage, and the multiply-adds of stages, deconvolutions and both together are
    included because the score depends mostly on them and a linear function cannot compute them.

    Args:
        space: The space of the archs.
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
        sums = [part.sum(axis=1, keepdims=True) for part in (ratios, kernels, ratios_off, kernels_off)]
        depth = values[:, [columns.depth]]
        parts += [np.log2(values[:, [columns.width]]), np.log2(depth), depth, ratios_off, kernels_off, *sums]
    return np.hstack(parts)


def work(space: SearchSpace, genes: Genes) -> Floats:
    """Return the multiply-adds of each stage's blocks and each level's deconvolutions, (N, stages + levels)."""
    # The number of keypoints affects only the predictions, which are not counted here.
    return cost_tables(space, num_keypoints=1).stage_and_deconv_macs(genes).astype(np.float64)
