"""Small spaces in which the score of every arch is known, to compare search engines with the optimum.

Part of the study ``python -m scripts.studies.search_engines``.
"""

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
"""A space of 3,456 archs with every kind of choice."""
FITTING_SHARE = 0.4
"""Share of all archs that fit the budget."""
EVALUATION_SHARE = 0.1
"""Share of the fitting archs that an engine may evaluate."""
PAIR_STRENGTH = 0.7
"""Standard deviation of the effect of a pair of choices, relative to that of a single choice."""


@dataclass(frozen=True)
class Landscape:
    """A space with the score of every arch, and a budget.

    Attributes:
        space: The space.
        model: Costs of archs.
        budget: Budget that ``FITTING_SHARE`` of the archs fit.
        scores: Score of every arch of the space.
        fitting: Scores of the archs within the budget, in descending order.
        pair_share: Share of the variance of the scores that single choices do not explain.
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


def all_archs(space: SearchSpace) -> list[Arch]:
    """Return every arch of a small space, once."""
    layout = space.layout
    genes = np.array(list(itertools.product(*map(range, layout.num_choices.tolist()))), np.int16)
    return space.decode(np.unique(layout.checked(genes), axis=0))


def make_landscape(space: SearchSpace, archs: Sequence[Arch], scores: Floats, num_keypoints: int = 17) -> Landscape:
    """Return the landscape of scored archs, with a budget in MACs that ``FITTING_SHARE`` of them fit."""
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
    """Return a landscape whose scores are a random function of single choices and pairs, without noise."""
    space = SearchSpace.from_dict(SPACE)
    archs = all_archs(space)
    genes = space.encode(archs).astype(np.int64) + 1
    rng = np.random.default_rng(seed)
    num_genes, num_values = genes.shape[1], int(genes.max()) + 1
    single = rng.normal(size=(num_genes, num_values))
    pairs = PAIR_STRENGTH * rng.normal(size=(num_genes, num_genes, num_values, num_values))
    scores = single[np.arange(num_genes), genes].sum(1)
    for i, j in itertools.combinations(range(num_genes), 2):
        scores += pairs[i, j, genes[:, i], genes[:, j]]
    return make_landscape(space, archs, scores)


@dataclass(frozen=True)
class ScoredArch:
    """A row of a table of scores; ``arch`` is in the format of an arch file."""

    arch: dict[str, Any]
    ap: float


@dataclass(frozen=True)
class ScoreTable:
    """The scores of all archs of a space, as a file."""

    space: dict[str, Any]
    num_keypoints: int
    rows: tuple[ScoredArch, ...]


def read_landscape(path: Path) -> Landscape:
    """Read a landscape from a ``ScoreTable`` in JSON.

    Raises:
        UserError: The file cannot be read or is not such a table.
    """
    table = from_mapping(ScoreTable, read_json(path, "table of scores"), str(path))
    archs = [Arch.from_dict(row.arch) for row in table.rows]
    scores = np.array([row.ap for row in table.rows])
    return make_landscape(SearchSpace.from_dict(table.space), archs, scores, table.num_keypoints)


def _one_hot(genes: npt.NDArray[np.int16]) -> Floats:
    return np.concatenate([(column[:, None] == np.unique(column)[None]) for column in genes.T], 1).astype(np.float64)


def expected_random_search(fitting: Floats, num: int) -> Floats:
    """Return the exact expected best score after each of ``num`` random evaluations without replacement.

    Of N archs with ranks from 0, the best of n has rank i with probability C(N - 1 - i, n - 1) / C(N, n).
    """
    total, ranks = len(fitting), np.arange(len(fitting))
    expected = []
    for n in range(1, num + 1):
        with np.errstate(invalid="ignore"):
            log = _log_choose(total - 1 - ranks, n - 1) - _log_choose(np.array(total), n)
        expected.append(float(np.where(total - 1 - ranks >= n - 1, np.exp(log), 0) @ fitting))
    return np.array(expected)


def _log_choose(n: npt.NDArray[np.int64], k: int) -> Floats:
    n = np.maximum(n, k)
    result: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return result


def hypervolume(costs: Floats, scores: Floats, worst: tuple[float, float]) -> float:
    """Return the area dominated by the points and bounded by the worst cost and score (a hypervolume in 2-D)."""
    area, best_score = 0.0, worst[1]
    for cost, score in sorted(zip(costs.tolist(), scores.tolist(), strict=True)):
        if score > best_score and cost < worst[0]:
            area, best_score = area + (worst[0] - cost) * (score - best_score), score
    return area
