"""The figures of a verification are those of their definitions."""

import pytest

from search.lut.verify import agreement


def test_errors_are_relative_to_what_was_measured() -> None:
    found = agreement([11.0, 18.0, 30.0], [[10.0], [19.0, 20.0, 24.0], [30.0, 30.0, 30.0]])
    assert (found.mape, found.worst, found.bias) == pytest.approx((20 / 3, 10.0, 0.0), abs=0.01)
    assert found.repeat_noise == pytest.approx((0 + 5 + 0 + 20 + 0 + 0 + 0) / 7, abs=0.01)
    assert (found.spearman, found.kendall, found.num_networks) == (1.0, 1.0, 3)


def test_correlations_are_of_ranks() -> None:
    """One of three pairs of ranks is the other way round: Kendall 1/3; Spearman 1 - 6 * 2 / (3 * 8)."""
    found = agreement([1.0, 3.0, 2.0], [[1.0], [20.0], [300.0]])
    assert found.kendall == pytest.approx(1 / 3, abs=1e-4)
    assert found.spearman == pytest.approx(0.5)
    assert found.repeat_noise is None


def test_networks_that_all_take_the_same_have_no_ranks() -> None:
    found = agreement([1.0, 1.0, 1.0], [[2.0], [2.0], [2.0]])
    assert (found.spearman, found.kendall) == (None, None)
