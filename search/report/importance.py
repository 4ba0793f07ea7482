"""How much each choice of a space matters for the score, as a predictor sees it (no torch)."""

import numpy as np

from search.features import Floats
from search.predictor import ApPredictor
from supernet.genes import Genes
from supernet.space import SearchSpace

REPEATS = 5


def importance(space: SearchSpace, genes: Genes, scores: Floats, rng: np.random.Generator) -> dict[str, float]:
    """Return by choice how far the predicted score moves when an arch takes that choice from another, on average.

    It is permutation importance, told in the score's own unit. A greater depth brings the other arch's blocks; expand
    ratios and kernel sizes of a stage are taken together, in the blocks that both archs have.

    Args:
        space: What the archs are of.
        genes: Scored archs, rows of ``space.encode`` (N, G).
        scores: Of each arch, (N,).
        rng: Draws who takes from whom.

    Returns:
        Choices with alternatives, the most important first.

    Raises:
        UserError: Too few archs to predict from.
    """
    predictor = ApPredictor(space).fit(genes, scores, rng)
    before = predictor.predict(genes)
    moved = dict.fromkeys(_choices(space), 0.0)
    for _ in range(REPEATS):
        others = genes[rng.permutation(len(genes))]
        for name, columns in _choices(space).items():
            after = predictor.predict(_taken(space, genes, others, columns))
            moved[name] += float(np.abs(after - before).mean()) / REPEATS
    return dict(sorted(moved.items(), key=lambda one: -one[1]))


def _taken(space: SearchSpace, genes: Genes, others: Genes, columns: list[int]) -> Genes:
    """Return ``genes`` (N, G) with the ``columns`` of ``others``, where both have them."""
    found, layout = genes.copy(), space.layout
    for stage in layout.stages:
        if stage.depth in columns:
            blocks = [column + i for column in stage.blocks for i in range(2)]
            found[:, blocks] = np.where(found[:, blocks] < 0, others[:, blocks], found[:, blocks])
    both = (genes[:, columns] >= 0) & (others[:, columns] >= 0)
    found[:, columns] = np.where(both, others[:, columns], found[:, columns])
    return layout.checked(found)


def _choices(space: SearchSpace) -> dict[str, list[int]]:
    """Return the columns of each choice that has alternatives, by name."""
    layout = space.layout
    found = {"resolution": [layout.resolution], "stem: width": [layout.stem_width]}
    for i, stage in enumerate(layout.stages):
        found |= {f"stage {i}: width": [stage.width], f"stage {i}: depth": [stage.depth]}
        found[f"stage {i}: expand ratios"] = list(stage.blocks)
        found[f"stage {i}: kernel sizes"] = [column + 1 for column in stage.blocks]
    found |= {f"deconv {i}: width": [column] for i, column in enumerate(layout.deconv_widths)}
    return {name: columns for name, columns in found.items() if layout.num_choices[columns[0]] > 1}
