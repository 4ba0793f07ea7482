"""The AP predictor: it ranks archs that it was not trained on, and reports how well it does."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from search.predictor import LEAST_ARCHS, ApPredictor, Quality, held_out, quality
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.space import SearchSpace

NANO = SearchSpace.load("nano")


def drawn(num: int, seed: int) -> list[Arch]:
    rng = np.random.default_rng(seed)
    archs = {NANO.sample(rng): None for _ in range(2 * num)}
    return list(archs)[:num]


def formula(arch: Arch) -> float:
    """A score that grows with all sizes, less and less, with larger kernels worth more in late, deep stages."""
    kernels = sum(sum(stage.kernel_sizes) * i / stage.depth for i, stage in enumerate(arch.stages))
    widths = sum(math.log(stage.width * sum(stage.expand_ratios)) for stage in arch.stages)
    return math.log(arch.resolution) + 0.2 * widths + 0.02 * kernels + 0.1 * math.tanh(kernels * widths / 500 - 1)


def scored(num: int, seed: int, noise: float = 0.0) -> tuple[Genes, NDArray[np.float64]]:
    archs = drawn(num, seed)
    scores = np.array([formula(arch) for arch in archs])
    return NANO.encode(archs), scores + noise * np.random.default_rng(seed).normal(size=num)


def ordered(predicted: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Kendall's tau of values without ties, by counting pairs."""
    pairs = list(itertools.combinations(range(len(scores)), 2))
    signs = [np.sign((predicted[i] - predicted[j]) * (scores[i] - scores[j])) for i, j in pairs]
    return float(np.mean(signs))


def test_archs_never_seen_come_out_in_the_order_of_their_scores() -> None:
    genes, scores = scored(200, 0)
    predicted = ApPredictor(NANO).fit(genes[:100], scores[:100], np.random.default_rng(0)).predict(genes[100:])
    assert ordered(predicted, scores[100:]) > 0.85
    np.testing.assert_allclose(predicted.mean(), scores[100:].mean(), atol=0.02)


def test_equal_generators_give_equal_predictions() -> None:
    genes, scores = scored(40, 1, noise=0.02)

    def predicted(seed: int) -> list[float]:
        predictor = ApPredictor(NANO).fit(genes, scores, np.random.default_rng(seed))
        values: list[float] = predictor.predict(genes[:20]).tolist()
        return values

    assert predicted(0) == predicted(0)
    assert predicted(0) != predicted(1)


def test_a_new_fit_forgets_the_one_before() -> None:
    genes, scores = scored(30, 2)
    predictor = ApPredictor(NANO).fit(genes, -scores, np.random.default_rng(0))
    fresh = ApPredictor(NANO).fit(genes, scores, np.random.default_rng(0)).predict(genes)
    assert predictor.fit(genes, scores, np.random.default_rng(0)).predict(genes).tolist() == fresh.tolist()


def test_held_out_quality_is_near_nothing_where_there_is_nothing_to_learn() -> None:
    genes, _ = scored(100, 3)
    scores = np.random.default_rng(3).normal(size=100)
    result = held_out(NANO, genes, scores, np.random.default_rng(0))
    assert abs(result.kendall_tau) < 0.2
    assert (result.num_train, result.num_held_out, result.k) == (80, 100, 10)


def test_held_out_quality_is_high_where_there_is_much_to_learn() -> None:
    genes, scores = scored(100, 4)
    assert held_out(NANO, genes, scores, np.random.default_rng(0)).kendall_tau > 0.8


def test_quality_counts_pairs_and_the_best_tenth() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal(size=30)
    predicted = scores + rng.normal(size=30)
    best = set(np.argsort(scores)[-3:].tolist())
    recall = len(best & set(np.argsort(predicted)[-3:].tolist())) / 3
    result = quality(predicted, scores, 70)
    assert result == Quality(result.kendall_tau, recall, 3, 70, 30)
    assert result.kendall_tau == pytest.approx(ordered(predicted, scores))


def test_equal_scores_are_predicted_and_have_no_order() -> None:
    genes, _ = scored(20, 6)
    scores = np.full(20, 0.25)
    np.testing.assert_allclose(ApPredictor(NANO).fit(genes, scores, np.random.default_rng(0)).predict(genes), 0.25)
    assert held_out(NANO, genes, scores, np.random.default_rng(0)).kendall_tau == 0


def test_too_few_archs_are_refused_in_a_sentence() -> None:
    genes, scores = scored(LEAST_ARCHS + 2, 7)
    few = LEAST_ARCHS - 1
    with pytest.raises(UserError, match=f"at least {LEAST_ARCHS} scored archs, got {few}"):
        ApPredictor(NANO).fit(genes[:few], scores[:few], np.random.default_rng(0))
    with pytest.raises(UserError, match=f"at least 13 scored archs, got {LEAST_ARCHS + 2}"):
        held_out(NANO, genes, scores, np.random.default_rng(0))


def test_scores_that_are_not_finite_or_do_not_fit_the_archs_are_defects() -> None:
    genes, scores = scored(20, 8)
    for wrong in (scores[:-1], np.where(scores == scores[3], np.nan, scores)):
        with pytest.raises(ValueError, match="scores of shape"):
            ApPredictor(NANO).fit(genes, wrong, np.random.default_rng(0))
    with pytest.raises(ValueError, match="call fit first"):
        ApPredictor(NANO).predict(genes)


def test_no_archs_have_no_predictions() -> None:
    genes, scores = scored(20, 9)
    assert ApPredictor(NANO).fit(genes, scores, np.random.default_rng(0)).predict(genes[:0]).shape == (0,)
