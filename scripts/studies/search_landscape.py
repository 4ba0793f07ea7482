"""Spaces small enough to know the score of every arch, to hold search engines against the best there is."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from search.budget import Budget, CostModel
from search.pareto import Floats
from supernet.arch import Arch
from supernet.io.files import read_json
from supernet.io.schema import from_mapping
from supernet.space import SearchSpace

SPACE = {
    "name": "small",
    "resolutions": [128, 144, 160],
    "stem_widths": [8, 16],
    "stages": [
        {"widths": [16], "depths": [1], "stride": 2, "expand_ratios": [3], "kernel_sizes": [3]},
        {"widths": [16, 24], "depths": [1, 2], "stride": 2, "expand_ratios": [3, 6], "kernel_sizes": [3]},
        {"widths": [24, 32], "depths": [1, 2], "stride": 2, "expand_ratios": [4], "kernel_sizes": [3, 5]},
        {"widths": [40, 48], "depths": [1], "stride": 1, "expand_ratios": [3], "kernel_sizes": [3]},
    ],
    "deconv_widths": [[16, 24], [16], [16]],
}
"""3,456 archs with every kind of choice."""
FITTING_SHARE = 0.4
"""Part of all archs that the budget allows."""
EVALUATION_SHARE = 0.1
"""Part of these that an engine may evaluate."""
PAIR_STRENGTH = 0.7
"""Standard deviation of what a pair of choices adds, over that of a single one."""


@dataclass(frozen=True)
class Landscape:
    """A space with the score of every arch, and a budget.

    Attributes:
        scores: By arch, all of the space.
        fitting: Scores of those within the budget, falling.
        pair_share: Part of the scores' variance that single choices do not explain.
    """

    space: SearchSpace
    model: CostModel
    budget: Budget
    scores: Mapping[Arch, float]
    fitting: Floats
    pair_share: float

    @property
    def num_evaluations(self) -> int:
        """Evaluations that an engine may use."""
        return int(EVALUATION_SHARE * len(self.fitting))


def enumerated(space: SearchSpace) -> list[Arch]:
    """Return every arch of a small space, once."""
    layout = space.layout
    genes = np.array(list(itertools.product(*map(range, layout.num_choices.tolist()))), np.int16)
    return space.decode(np.unique(layout.checked(genes), axis=0))


def landscape(space: SearchSpace, archs: Sequence[Arch], scores: Floats, num_keypoints: int = 17) -> Landscape:
    """Return archs and scores with a budget in MACs that ``FITTING_SHARE`` of the archs keep."""
    model = CostModel(space, num_keypoints)
    genes = space.encode(archs)
    costs = model(genes)
    budget = Budget.from_mapping({"macs": int(np.quantile(costs["macs"], FITTING_SHARE))}, model)
    singles = _one_hot(genes)
    residual = scores - singles @ np.linalg.lstsq(singles, scores, rcond=None)[0]
    fitting = np.sort(scores[budget.fits(costs)])[::-1]
    table = dict(zip(archs, scores.tolist(), strict=True))
    return Landscape(space, model, budget, table, fitting, float(residual.var() / scores.var()))


def synthetic(seed: int) -> Landscape:
    """Return a random function of single choices and of pairs of them; without noise, so that it has one best arch."""
    space = SearchSpace.from_dict(SPACE)
    archs = enumerated(space)
    genes = space.encode(archs).astype(np.int64) + 1
    rng = np.random.default_rng(seed)
    num_genes, num_values = genes.shape[1], int(genes.max()) + 1
    single = rng.normal(size=(num_genes, num_values))
    pairs = PAIR_STRENGTH * rng.normal(size=(num_genes, num_genes, num_values, num_values))
    scores = single[np.arange(num_genes), genes].sum(1)
    for i, j in itertools.combinations(range(num_genes), 2):
        scores += pairs[i, j, genes[:, i], genes[:, j]]
    return landscape(space, archs, scores)


@dataclass(frozen=True)
class ScoredArch:
    """A row of a table of scores; ``arch`` in LitePose's format."""

    arch: dict[str, Any]
    ap: float


@dataclass(frozen=True)
class ScoreTable:
    """A file with the scores of all archs of a space."""

    space: dict[str, Any]
    num_keypoints: int
    rows: tuple[ScoredArch, ...]


def from_table(path: Path) -> Landscape:
    """Read the scores of all archs of a space, a ``ScoreTable`` in JSON.

    Raises:
        UserError: The file cannot be read or is no such table.
    """
    table = from_mapping(ScoreTable, read_json(path, "table of scores"), str(path))
    archs = [Arch.from_dict(row.arch) for row in table.rows]
    scores = np.array([row.ap for row in table.rows])
    return landscape(SearchSpace.from_dict(table.space), archs, scores, table.num_keypoints)


def _one_hot(genes: npt.NDArray[np.int16]) -> Floats:
    return np.concatenate([(column[:, None] == np.unique(column)[None]) for column in genes.T], 1).astype(np.float64)


def random_search(fitting: Floats, num: int) -> Floats:
    """Return the exact expectation of the best score after each of ``num`` random evaluations, none twice.

    Of N archs ranked from 0, the best of n is that of rank i with probability C(N - 1 - i, n - 1) / C(N, n).
    """
    total, ranks = len(fitting), np.arange(len(fitting))
    found = []
    for n in range(1, num + 1):
        with np.errstate(invalid="ignore"):
            log = _log_choose(total - 1 - ranks, n - 1) - _log_choose(np.array(total), n)
        found.append(float(np.where(total - 1 - ranks >= n - 1, np.exp(log), 0) @ fitting))
    return np.array(found)


def _log_choose(n: npt.NDArray[np.int64], k: int) -> Floats:
    n = np.maximum(n, k)
    result: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return result


def hypervolume(costs: Floats, scores: Floats, worst: tuple[float, float]) -> float:
    """Return the area of the plane that lies below one of the points, above the worst score and cost."""
    found, top = 0.0, worst[1]
    for cost, score in sorted(zip(costs.tolist(), scores.tolist(), strict=True)):
        if score > top and cost < worst[0]:
            found, top = found + (worst[0] - cost) * (score - top), score
    return found
