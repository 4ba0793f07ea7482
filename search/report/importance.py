"""Permutation importance of the choices of a space for the predicted AP (no torch)."""

import numpy as np

from search.features import Floats
from search.predictor import ApPredictor
from supernet.genes import Genes
from supernet.pose.metrics.image_matches import interval
from supernet.space import SearchSpace

REPEATS = 5
RESAMPLES = 10
"""Draws of images and subnets for the intervals; each fits a predictor."""


def importance(
    space: SearchSpace, genes: Genes, scores: Floats, rng: np.random.Generator, repeats: int = REPEATS
) -> dict[str, float]:
    """Return the mean absolute change of the predicted score when an arch takes a choice from another arch, by choice.

    This is permutation importance, in the unit of the scores. A greater depth is taken with the blocks of the other
    arch; the expand ratios (or kernel sizes) of a stage are taken together, in the blocks that both archs have.

    Args:
        space: Space of the archs.
        genes: Scored archs, rows of ``space.encode`` (N, G).
        scores: Score of each arch, (N,).
        rng: Pairs the archs.
        repeats: Pairs of each arch.

    Returns:
        Choices with at least two values, the most important first.

    Raises:
        UserError: Too few archs to fit a predictor.
    """
    predictor = ApPredictor(space).fit(genes, scores, rng)
    before = predictor.predict(genes)
    changes = dict.fromkeys(_choices(space), 0.0)
    for _ in range(repeats):
        others = genes[rng.permutation(len(genes))]
        for name, columns in _choices(space).items():
            after = predictor.predict(_with_columns(space, genes, others, columns))
            changes[name] += float(np.abs(after - before).mean()) / repeats
    return dict(sorted(changes.items(), key=lambda name_and_change: -name_and_change[1]))


def importance_intervals(
    space: SearchSpace, genes: Genes, resampled: Floats, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Return the interval of each importance over draws of the images and of the archs.

    Each draw takes the scores on other images and as many archs with replacement, because both are samples.

    Args:
        space: Space of the archs.
        genes: Scored archs, (N, G).
        resampled: Score of each arch on each draw of the images, (N, R).
        rng: Draws and pairs the archs.
    """
    finite = np.flatnonzero(np.isfinite(resampled).all(0))[:RESAMPLES]
    found: dict[str, list[float]] = {}
    for draw in finite:
        chosen = rng.integers(len(genes), size=len(genes))
        for name, value in importance(space, genes[chosen], resampled[chosen, draw], rng, repeats=1).items():
            found.setdefault(name, []).append(value)
    ends = {name: interval(np.array(values)) for name, values in found.items()}
    return {name: end for name, end in ends.items() if end is not None}


def _with_columns(space: SearchSpace, genes: Genes, others: Genes, columns: list[int]) -> Genes:
    """Return ``genes`` (N, G) with the ``columns`` of ``others`` where both have them."""
    mixed, layout = genes.copy(), space.layout
    for stage in layout.stages:
        if stage.depth in columns:
            blocks = [column + i for column in stage.blocks for i in range(2)]
            mixed[:, blocks] = np.where(mixed[:, blocks] < 0, others[:, blocks], mixed[:, blocks])
    both = (genes[:, columns] >= 0) & (others[:, columns] >= 0)
    mixed[:, columns] = np.where(both, others[:, columns], mixed[:, columns])
    return layout.checked(mixed)


def _choices(space: SearchSpace) -> dict[str, list[int]]:
    """Return the columns of each choice with at least two values, by name."""
    layout = space.layout
    choices = {"resolution": [layout.resolution], "stem: width": [layout.stem_width]}
    for i, stage in enumerate(layout.stages):
        choices |= {f"stage {i}: width": [stage.width], f"stage {i}: depth": [stage.depth]}
        choices[f"stage {i}: expand ratios"] = list(stage.blocks)
        choices[f"stage {i}: kernel sizes"] = [column + 1 for column in stage.blocks]
    choices |= {f"deconv {i}: width": [column] for i, column in enumerate(layout.deconv_widths)}
    return {name: columns for name, columns in choices.items() if layout.num_choices[columns[0]] > 1}
