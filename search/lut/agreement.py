"""How well predicted latencies agree with measured ones, and with how much noise these were measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats


@dataclass(frozen=True)
class Agreement:
    """Errors relative to the measured latency, in percent, and rank correlations (None where there are none).

    Attributes:
        mape: Mean absolute error.
        worst: Greatest absolute error.
        bias: Mean error; above 0, predictions are too high.
        spearman, kendall: Rank correlations of predicted and measured.
        repeat_noise: Mean absolute difference of the median of one round from that over all rounds of a network; None
            for a single round. No prediction can be told to be better than that.
        num_networks: That were compared.
    """

    mape: float
    worst: float
    bias: float
    spearman: float | None
    kendall: float | None
    repeat_noise: float | None
    num_networks: int


def agreement(predicted: Sequence[float], medians: Sequence[Sequence[float]]) -> Agreement:
    """Compare predictions with measurements.

    Args:
        predicted: Milliseconds, one a network.
        medians: The same, measured: the median of each round.
    """
    measured = np.array([np.median(each) for each in medians])
    errors = 100 * (np.array(predicted) / measured - 1)
    noise = [100 * abs(value / middle - 1) for each, middle in zip(medians, measured, strict=True) for value in each]
    return Agreement(
        round(float(np.abs(errors).mean()), 2),
        round(float(np.abs(errors).max()), 2),
        round(float(errors.mean()), 2),
        _correlation(stats.spearmanr, predicted, measured),
        _correlation(stats.kendalltau, predicted, measured),
        round(float(np.mean(noise)), 2) if max(map(len, medians)) > 1 else None,
        len(measured),
    )


def _correlation(of: Callable[..., Any], first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Return a rank correlation; None where one side has no order."""
    return round(float(of(first, second).statistic), 4) if np.ptp(first) > 0 and np.ptp(second) > 0 else None
