"""AP of archs that were not evaluated, learnt from those that were (no torch).

Source: accuracy predictors as in Once-for-All (arXiv 1908.09791), section 3.4. That one is a network trained on 16,000
evaluated archs. A search here evaluates some hundred, which simpler models with features that say what matters learn
more from. Of those tried, a linear model is best on the fewest archs and shallow trees on many; their mean was among
the best throughout (``scripts/studies/predictor.py`` repeats the comparison).
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import kendalltau
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, VotingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from search.features import Floats, features, one_hot
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.space import SearchSpace

LEAST_ARCHS = 10
"""Fewer scored archs say next to nothing of others."""
FOLDS = 5
LEAST_HELD_OUT = math.ceil(LEAST_ARCHS * FOLDS / (FOLDS - 1))
"""Archs of which four fifths are enough to learn from."""


class ApPredictor:
    """Predicts the score of any arch of a space, as the mean of two models.

    Ridge regression on the features and every single choice, which may be good or bad regardless of its size, and
    gradient boosting on the features.

    Args:
        space: What the archs are of.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._model: VotingRegressor | None = None

    def fit(self, genes: Genes, scores: Floats, rng: np.random.Generator) -> Self:
        """Learn from scored archs, forgetting what was learnt before.

        Args:
            genes: Rows of ``space.encode``, (N, G).
            scores: Of each arch, (N,).
            rng: Draws the half of the archs that each tree learns from.

        Raises:
            UserError: Fewer than ``LEAST_ARCHS`` archs.
            ValueError: A score is not finite, or there is not one for each arch.
        """
        scores = _checked(genes, scores)
        inputs, num_features = self._inputs(genes)
        self._model = _untrained(num_features, int(rng.integers(2**31))).fit(inputs, scores)
        return self

    def predict(self, genes: Genes) -> Floats:
        """Return the expected score (N,) of archs, rows of ``space.encode`` (N, G)."""
        if self._model is None:
            raise ValueError("the predictor has learnt nothing yet; call fit first")
        if not len(genes):
            return np.zeros(0)
        found: Floats = self._model.predict(self._inputs(genes)[0])
        return found

    def _inputs(self, genes: Genes) -> tuple[Floats, int]:
        """Return what the models learn from, (N, F), and how many columns of it, the first ones, are features."""
        found = features(self.space, genes)
        return np.hstack([found, one_hot(self.space, genes)]), found.shape[1]


@dataclass(frozen=True)
class Quality:
    """How well scores were predicted on archs that the predictor was not trained on.

    Attributes:
        kendall_tau: Pairs in the right order less those in the wrong one, over all: from -1 to 1; ties count as by
            tau-b. 0 where all scores or all predictions are equal, as there is no order then.
        top_k_recall: Part of the best ``k`` archs that is among the ``k`` predicted best.
        k: A tenth of the held-out archs, rounded up.
        num_train: Archs trained on, for each held-out one.
        num_held_out: Archs compared.
    """

    kendall_tau: float
    top_k_recall: float
    k: int
    num_train: int
    num_held_out: int


def quality(predicted: Floats, scores: Floats, num_train: int) -> Quality:
    """Compare predictions (N,) with scores (N,) of archs that were not among the ``num_train`` trained on."""
    tau = float(kendalltau(predicted, scores).statistic) if np.ptp(predicted) and np.ptp(scores) else 0.0
    k = math.ceil(len(scores) / 10)
    best, guessed = (set(np.argsort(-values, kind="stable")[:k].tolist()) for values in (scores, predicted))
    return Quality(tau, len(best & guessed) / k, k, num_train, len(scores))


def held_out(space: SearchSpace, genes: Genes, scores: Floats, rng: np.random.Generator) -> Quality:
    """Return the quality of predictions for each arch by a predictor trained on four fifths of the archs without it.

    Args:
        space: What the archs are of.
        genes: Rows of ``space.encode``, (N, G), no arch twice.
        scores: Of each arch, (N,).
        rng: Divides the archs into fifths.

    Raises:
        UserError: Too few archs to train on four fifths of them.
        ValueError: A score is not finite, or there is not one for each arch.
    """
    scores = _checked(genes, scores, LEAST_HELD_OUT)
    predicted = np.empty(len(scores))
    parts = np.array_split(rng.permutation(len(scores)), FOLDS)
    for part in parts:
        others = np.setdiff1d(np.arange(len(scores)), part)
        predicted[part] = ApPredictor(space).fit(genes[others], scores[others], rng).predict(genes[part])
    return quality(predicted, scores, len(scores) - len(parts[0]))


def _untrained(num_features: int, seed: int) -> VotingRegressor:
    """Return a model whose only free setting, how far coefficients are held back, is found by leaving one out."""
    linear = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 25)))
    boosted = GradientBoostingRegressor(
        n_estimators=150, learning_rate=0.05, max_depth=2, subsample=0.5, random_state=seed
    )
    only_features = ColumnTransformer([("features", "passthrough", slice(num_features))])
    return VotingRegressor([("linear", linear), ("trees", make_pipeline(only_features, boosted))])


def _checked(genes: Genes, scores: Floats, least: int = LEAST_ARCHS) -> Floats:
    scores = np.asarray(scores, np.float64)
    if scores.shape != genes.shape[:1] or not np.isfinite(scores).all():
        raise ValueError(f"scores of shape {scores.shape} for genes of {genes.shape}; give a finite one for each arch")
    if len(scores) < least:
        raise UserError(
            f"a predictor needs at least {least} scored archs but there are {len(scores)}; score more first"
        )
    return scores
