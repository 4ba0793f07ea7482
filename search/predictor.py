"""Predicts the AP of archs from archs that were evaluated (no torch).

Source: accuracy predictors as in Once-for-All (arXiv 1908.09791), section 3.4, where the predictor is a network trained
on 16,000 evaluated archs. A search here evaluates a few hundred, from which simpler models with informative features
learn more. Of the models compared, a linear model was best with few archs and shallow trees with many; their mean was
among the best throughout (``scripts/studies/predictor.py`` repeats the comparison).
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
"""Minimum number of scored archs to learn from."""
FOLDS = 5
LEAST_HELD_OUT = math.ceil(LEAST_ARCHS * FOLDS / (FOLDS - 1))
"""Minimum number of archs of which four fifths are enough to learn from."""


class ApPredictor:
    """Predicts the score of any arch of a space, as the mean of two models.

    These are a ridge regression on the features and on every single choice, which may be good or bad regardless of its
    size, and gradient boosting on the features.

    Args:
        space: The space of the archs.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._model: VotingRegressor | None = None

    def fit(self, genes: Genes, scores: Floats, rng: np.random.Generator) -> Self:
        """Learn from scored archs; a second call starts from scratch.

        Args:
            genes: Rows of ``space.encode``, (N, G).
            scores: Score of each arch, (N,).
            rng: Draws the half of the archs that each tree learns from.

        Raises:
            UserError: Fewer than ``LEAST_ARCHS`` archs.
            ValueError: A score is not finite, or their number is not that of the archs.
        """
        scores = _checked(genes, scores)
        inputs, num_features = self._inputs(genes)
        self._model = _untrained(num_features, int(rng.integers(2**31))).fit(inputs, scores)
        return self

    def predict(self, genes: Genes) -> Floats:
        """Return the expected score (N,) of archs, rows of ``space.encode`` (N, G)."""
        if self._model is None:
            raise ValueError("the predictor is not fitted; call fit first")
        if not len(genes):
            return np.zeros(0)
        scores: Floats = self._model.predict(self._inputs(genes)[0])
        return scores

    def _inputs(self, genes: Genes) -> tuple[Floats, int]:
        """Return the inputs (N, F) of the models, and the number of leading columns that are features."""
        columns = features(self.space, genes)
        return np.hstack([columns, one_hot(self.space, genes)]), columns.shape[1]


@dataclass(frozen=True)
class Quality:
    """Quality of predictions for archs that the predictor was not trained on.

    Attributes:
        kendall_tau: Kendall's tau-b of scores and predictions, from -1 to 1; 0 if all scores or all predictions are
            equal.
        top_k_recall: Share of the best ``k`` archs that are among the ``k`` predicted best.
        k: A tenth of the held-out archs, rounded up.
        num_train: Number of archs trained on for each held-out arch.
        num_held_out: Number of archs compared.
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
    best, predicted_best = (set(np.argsort(-values, kind="stable")[:k].tolist()) for values in (scores, predicted))
    return Quality(tau, len(best & predicted_best) / k, k, num_train, len(scores))


def held_out(space: SearchSpace, genes: Genes, scores: Floats, rng: np.random.Generator) -> Quality:
    """Return the quality of predictions in a five-fold cross-validation.

    Args:
        space: The space of the archs.
        genes: Rows of ``space.encode``, (N, G), of distinct archs.
        scores: Score of each arch, (N,).
        rng: Divides the archs into fifths.

    Raises:
        UserError: Too few archs to train on four fifths of them.
        ValueError: A score is not finite, or their number is not that of the archs.
    """
    scores = _checked(genes, scores, LEAST_HELD_OUT)
    predicted = np.empty(len(scores))
    parts = np.array_split(rng.permutation(len(scores)), FOLDS)
    for part in parts:
        others = np.setdiff1d(np.arange(len(scores)), part)
        predicted[part] = ApPredictor(space).fit(genes[others], scores[others], rng).predict(genes[part])
    return quality(predicted, scores, len(scores) - len(parts[0]))


def _untrained(num_features: int, seed: int) -> VotingRegressor:
    """Return an unfitted model; leave-one-out validation sets its only free parameter, the ridge penalty."""
    linear = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 25)))
    boosted = GradientBoostingRegressor(
        n_estimators=150, learning_rate=0.05, max_depth=2, subsample=0.5, random_state=seed
    )
    only_features = ColumnTransformer([("features", "passthrough", slice(num_features))])
    return VotingRegressor([("linear", linear), ("trees", make_pipeline(only_features, boosted))])


def _checked(genes: Genes, scores: Floats, least: int = LEAST_ARCHS) -> Floats:
    scores = np.asarray(scores, np.float64)
    if scores.shape != genes.shape[:1] or not np.isfinite(scores).all():
        raise ValueError(f"scores of shape {scores.shape} for genes of {genes.shape}; give one finite score per arch")
    if len(scores) < least:
        raise UserError(f"a predictor needs at least {least} scored archs, got {len(scores)}; score more first")
    return scores
