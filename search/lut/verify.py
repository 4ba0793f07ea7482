"""Measure whole networks that a table never saw and compare with what it predicts."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy import stats

from search.lut.build import run_rounds
from search.lut.measurements import entries_of, read_measurements
from search.lut.runtimes import Runtime
from search.lut.workloads import draw_networks, network_key
from supernet.cli.console import CONSOLE
from supernet.costs.latency_table import LatencyTable
from supernet.costs.latency_table import check_settings as check_settings
from supernet.errors import UserError


def verify(
    table: LatencyTable,
    engine: Runtime,
    num_networks: int,
    rounds: int,
    seed: int,
    console: Console = CONSOLE,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Measure random networks in rounds and return how the predictions agree, in plain values.

    Args:
        table: That predicts.
        engine: Runs the networks, with the settings of the table.
        num_networks: How many; fewer only if the space is that small.
        rounds: Visits of each.
        seed: Of their draw.
        console: Where progress is shown.
        clock: Seconds.

    Raises:
        UserError: The table was measured with other settings, or its space has no networks left.
    """
    check_settings(table.settings, engine.settings)
    fitted = [each.arch for each in table.networks]
    archs = draw_networks(table.space, num_networks, seed, fitted)
    if not archs:
        raise UserError(f"all networks of space {table.space.name} were used in fitting; build with fewer --networks")
    with tempfile.TemporaryDirectory() as place:
        journal = Path(place) / "journal"
        run_rounds(engine, table.space, table.num_keypoints, archs, journal, rounds, 60.0, console, clock, False)
        _, visits = read_measurements(journal)
    entries = entries_of(visits, {network_key(arch): arch for arch in archs})
    predicted = [table.predict_ms(arch) for arch in archs]
    medians = [
        [float(np.median(visit["ms"])) for visit in visits if visit["subject"] == network_key(arch)] for arch in archs
    ]
    rows = [
        {"predicted_ms": round(guess, 5), **asdict(entries[network_key(arch)]), "arch": arch.to_dict()}
        for arch, guess in zip(archs, predicted, strict=True)
    ]
    return {
        "settings": asdict(engine.settings),
        "space_digest": table.space.digest(),
        "seed": seed,
        "agreement": asdict(agreement(predicted, medians)),
        "networks": rows,
    }


def report(found: dict[str, Any]) -> Table:
    """Return the agreement as a table for people."""
    told = found["agreement"]
    noise = "one round only" if told["repeat_noise"] is None else f"{told['repeat_noise']:.2f} %"
    measured = [row["p50_ms"] for row in found["networks"]]
    table = Table(title=f"{told['num_networks']} networks never used in fitting", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column()
    for name, value in (
        ("measured", f"{min(measured):.2f} to {max(measured):.2f} ms"),
        ("mean error (MAPE)", f"{told['mape']:.2f} %"),
        ("worst error", f"{told['worst']:.2f} %"),
        ("bias", f"{told['bias']:+.2f} %"),
        ("Spearman", str(told["spearman"])),
        ("Kendall", str(told["kendall"])),
        ("repeat noise", noise),
    ):
        table.add_row(name, value)
    return table


@dataclass(frozen=True)
class TableAccuracy:
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


def agreement(predicted: Sequence[float], medians: Sequence[Sequence[float]]) -> TableAccuracy:
    """Compare predictions with measurements.

    Args:
        predicted: Milliseconds, one a network.
        medians: The same, measured: the median of each round.
    """
    measured = np.array([np.median(each) for each in medians])
    errors = 100 * (np.array(predicted) / measured - 1)
    noise = [100 * abs(value / middle - 1) for each, middle in zip(medians, measured, strict=True) for value in each]
    return TableAccuracy(
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
