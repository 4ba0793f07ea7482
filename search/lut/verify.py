"""Verifies a latency table: measures networks that it was not fitted on and compares them with its predictions."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from search.lut.build import Effort, Progress, opened, run_rounds
from search.lut.measurements import entries_of
from search.lut.runtimes import Runtime
from search.lut.workloads import MeasurementPlan, draw_networks, network_key
from supernet.arch import Arch
from supernet.costs.latency_table import LatencyTable, MeasuredNetwork, check_settings
from supernet.errors import UserError

NUM_REFERENCES = 10
"""Networks of the table that are measured again beside the new ones, to see how the machine's speed has changed."""


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

    Some networks of the table are measured again in the same rounds. ``machine_change`` is the median of their latency
    now, relative to that in the table: other work, heat and a governor change a machine's speed between two
    measurements. ``agreement_at_this_speed`` compares the predictions times that factor. Both are None for a table
    without networks.

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
    references = references_of(table)
    measured_archs = networks | {network_key(network.arch): network.arch for network in references}
    plan = MeasurementPlan(table.space, table.num_keypoints, tuple(measured_archs.values()))
    header = plan.header(asdict(runtime.settings))
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "journal", header) as journal:
        run_rounds(runtime, measured_archs, journal, effort, progress)
    visits = journal.visits
    entries = entries_of(visits, measured_archs)
    predicted = [table.predict_ms(arch) for arch in archs]
    medians = [[float(np.median(visit["ms"])) for visit in visits if visit["subject"] == key] for key in networks]
    changes = [entries[network_key(network.arch)].p50_ms / network.entry.p50_ms for network in references]
    change = round(float(np.median(changes)), 4) if changes else None
    rows = [
        {"predicted_ms": round(prediction, 5), **asdict(entries[key]), "arch": arch.to_dict()}
        for (key, arch), prediction in zip(networks.items(), predicted, strict=True)
    ]
    return {
        "settings": asdict(runtime.settings),
        "space_digest": table.space.digest(),
        "seed": seed,
        "agreement": asdict(accuracy(predicted, medians)),
        "machine_change": change,
        "agreement_at_this_speed": change and asdict(accuracy([value * change for value in predicted], medians)),
        "networks": rows,
    }


def references_of(table: LatencyTable) -> list[MeasuredNetwork]:
    """Return networks that the table was fitted on, from the fastest to the slowest; all if there are few."""
    networks = sorted(table.networks, key=lambda network: network.entry.p50_ms)
    num = min(NUM_REFERENCES, len(networks))
    return [networks[i] for i in np.linspace(0, len(networks) - 1, num).round().astype(int)]


def _correlation(function: Callable[..., Any], first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Return a rank correlation; None if the values of one side are all equal."""
    return round(float(function(first, second).statistic), 4) if np.ptp(first) > 0 and np.ptp(second) > 0 else None
