"""Verifies a latency table: measures networks that it was not fitted on and compares them with its predictions."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from search.lut.build import Effort, Progress, run_rounds
from search.lut.measurements import entries_of, read_measurements
from search.lut.runtimes import Runtime
from search.lut.workloads import MeasurementPlan, draw_networks, network_key
from supernet.arch import Arch
from supernet.costs.latency_table import LatencyTable, check_settings
from supernet.errors import UserError


@dataclass(frozen=True)
class TableAccuracy:
    """Errors relative to the measured latency in percent, and rank correlations (None if a side has no order).

    Attributes:
        mape: Mean absolute error.
        worst: Largest absolute error.
        bias: Mean error; positive if predictions are too high.
        spearman: Spearman correlation of predicted and measured latencies.
        kendall: Kendall correlation of the same.
        repeat_noise: Mean absolute difference between the median of one round and that of all rounds of a network;
            None for a single round. Errors below it cannot be distinguished from noise.
        num_networks: Number of networks compared.
    """

    mape: float
    worst: float
    bias: float
    spearman: float | None
    kendall: float | None
    repeat_noise: float | None
    num_networks: int


def accuracy(predicted: Sequence[float], medians: Sequence[Sequence[float]]) -> TableAccuracy:
    """Compare predictions with measurements.

    Args:
        predicted: Milliseconds of each network.
        medians: Measured milliseconds of each network: the median of every round.
    """
    measured = np.array([np.median(rounds) for rounds in medians])
    errors = 100 * (np.array(predicted) / measured - 1)
    noise = [
        100 * abs(value / median - 1) for rounds, median in zip(medians, measured, strict=True) for value in rounds
    ]
    return TableAccuracy(
        round(float(np.abs(errors).mean()), 2),
        round(float(np.abs(errors).max()), 2),
        round(float(errors.mean()), 2),
        _correlation(stats.spearmanr, predicted, measured),
        _correlation(stats.kendalltau, predicted, measured),
        round(float(np.mean(noise)), 2) if max(map(len, medians)) > 1 else None,
        len(measured),
    )


def unseen_networks(table: LatencyTable, num: int, seed: int) -> list[Arch]:
    """Draw networks of the table's space that it was not fitted on; fewer than ``num`` only if the space is small.

    Raises:
        UserError: The table was fitted on every network of its space.
    """
    archs = draw_networks(table.space, num, seed, [network.arch for network in table.networks])
    if not archs:
        raise UserError(f"all networks of space {table.space.name} were used in fitting; build with fewer --networks")
    return archs


def verify(
    table: LatencyTable, runtime: Runtime, num_networks: int, seed: int, effort: Effort, progress: Progress
) -> dict[str, Any]:
    """Measure random networks in rounds and return how well the table predicts them, in plain values.

    Args:
        table: The table to verify.
        runtime: Runs the networks, with the settings of the table.
        num_networks: Number of networks; fewer only if the space is that small.
        seed: Seed of their draw.
        effort: How long to measure.
        progress: Shows progress.

    Raises:
        UserError: The table was measured with other settings, or was fitted on every network of its space.
    """
    check_settings(table.settings, runtime.settings)
    archs = unseen_networks(table, num_networks, seed)
    networks = {network_key(arch): arch for arch in archs}
    header = MeasurementPlan(table.space, table.num_keypoints, tuple(archs)).header(asdict(runtime.settings))
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        run_rounds(runtime, networks, (journal, header), effort, progress)
        _, visits = read_measurements(journal)
    entries = entries_of(visits, networks)
    predicted = [table.predict_ms(arch) for arch in archs]
    medians = [[float(np.median(visit["ms"])) for visit in visits if visit["subject"] == key] for key in networks]
    rows = [
        {"predicted_ms": round(prediction, 5), **asdict(entries[key]), "arch": arch.to_dict()}
        for (key, arch), prediction in zip(networks.items(), predicted, strict=True)
    ]
    return {
        "settings": asdict(runtime.settings),
        "space_digest": table.space.digest(),
        "seed": seed,
        "agreement": asdict(accuracy(predicted, medians)),
        "networks": rows,
    }


def _correlation(function: Callable[..., Any], first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Return a rank correlation; None if the values of one side are all equal."""
    return round(float(function(first, second).statistic), 4) if np.ptp(first) > 0 and np.ptp(second) > 0 else None
