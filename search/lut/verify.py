"""Measure whole networks that a table never saw and compare with what it predicts."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from search.lut.agreement import agreement
from search.lut.build import run_rounds
from search.lut.engines import Engine
from search.lut.reading import entries_of, read_measurements
from search.lut.subjects import draw_networks, network_key
from supernet import cli
from supernet.errors import UserError
from supernet.latency_table import LatencyTable
from supernet.latency_table import check_settings as check_settings


def verify(
    table: LatencyTable,
    engine: Engine,
    num_networks: int,
    rounds: int,
    seed: int,
    console: Console = cli.CONSOLE,
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
