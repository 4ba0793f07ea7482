"""What a predictor sees of an arch: numbers made from its genes (no torch)."""

import numpy as np
import numpy.typing as npt

from supernet.arch import DECONV_KERNEL_SIZE
from supernet.space import SearchSpace

Floats = npt.NDArray[np.float64]
Genes = npt.NDArray[np.int16]


def gene_names(space: SearchSpace) -> list[tuple[str, tuple[int, ...]]]:
    """Return what each column of ``SearchSpace.encode`` chooses, and its choices."""
    found = [("resolution", space.resolutions), ("stem width", space.stem_widths)]
    for i, stage in enumerate(space.stages):
        found += [(f"stage {i} width", stage.widths), (f"stage {i} depth", stage.depths)]
        for j in range(stage.depths[-1]):
            found.append((f"stage {i} block {j} expand ratio", stage.expand_ratios))
            found.append((f"stage {i} block {j} kernel size", stage.kernel_sizes))
    return found + [(f"deconv {i} width", widths) for i, widths in enumerate(space.deconv_widths)]


def gene_values(space: SearchSpace, genes: Genes) -> Floats:
    """Return the chosen values, (N, G); blocks past the depth have expand ratio and kernel size 0."""
    columns = [np.array([*choices, 0.0])[genes[:, i]] for i, (_, choices) in enumerate(gene_names(space))]
    return np.stack(columns, axis=1)  # index -1, a block past the depth, picks the 0 at the end


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
    values, ends = gene_values(space, genes), work(space, genes)
    deconv = values[:, -len(space.deconv_widths) :]
    parts = [np.log2(values[:, :2]), np.log2(deconv), np.log2(ends), np.log2(ends.sum(axis=1, keepdims=True))]
    start = 2
    for stage in space.stages:
        end = start + 2 + 2 * stage.depths[-1]
        ratios, kernels = values[:, start + 2 : end : 2], values[:, start + 3 : end : 2]
        present = ratios > 0
        ratios_off = np.where(present, ratios - np.mean(stage.expand_ratios), 0)
        kernels_off = np.where(present, kernels - np.mean(stage.kernel_sizes), 0)
        sums = [each.sum(axis=1, keepdims=True) for each in (ratios, kernels, ratios_off, kernels_off)]
        sizes = values[:, start : start + 2]
        parts += [np.log2(sizes), sizes[:, 1:], ratios_off, kernels_off, *sums]
        start = end
    return np.hstack(parts)


def work(space: SearchSpace, genes: Genes) -> Floats:
    """Return the multiply-adds of each stage's blocks and each level's deconvolutions, (N, stages + levels)."""
    values = gene_values(space, genes)
    size, width, start = values[:, 0] / 2, values[:, 1], 2  # side of the maps after the stem, and their channels
    found, skips = [], []
    for stage in space.stages:
        end = start + 2 + 2 * stage.depths[-1]
        out, ratios, kernels = values[:, [start]], values[:, start + 2 : end : 2], values[:, start + 3 : end : 2]
        inputs = np.repeat(out, ratios.shape[1], axis=1)
        inputs[:, 0] = width
        hidden = inputs * ratios
        before, size = size, size / stage.stride
        after = (hidden * (kernels**2 + out)).sum(axis=1) + (hidden * inputs)[:, 1:].sum(axis=1)
        found.append(before**2 * hidden[:, 0] * inputs[:, 0] + size**2 * after)
        skips.append(width)
        width, start = out[:, 0], end
    for out, skip in zip(values[:, -len(space.deconv_widths) :].T, skips[:0:-1], strict=True):
        found.append(size**2 * DECONV_KERNEL_SIZE**2 * (width + skip) * out)
        size, width = 2 * size, out
    return np.stack(found, axis=1)
