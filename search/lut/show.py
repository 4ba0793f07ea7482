"""Tables for the terminal: what a latency table holds, predicts, and how accurate it is."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from search.lut.devices.transfer import Transfer
from supernet.arch import Arch
from supernet.costs.latency_blocks import KINDS, blocks_of, key_of, kind_of
from supernet.costs.latency_table import LatencyTable


def overview(table: LatencyTable) -> RenderableType:
    """Return a table's settings, its overhead, its errors on the fitted networks, and its blocks by kind."""
    overhead, settings = table.overhead, table.settings
    facts = _facts(
        f"latency table of space {table.space.name}",
        {
            "measured with": settings.describe(),
            "system": settings.system,
            "resolutions": ", ".join(map(str, table.space.resolutions)),
            "keypoints": str(table.num_keypoints),
            "space digest": table.space.digest(),
            "fixed part": f"{overhead.fixed_ms:.3f} ms; a call {overhead.call_ms:.4f} ms",
            "factors": f"backbone {overhead.backbone_factor:.3f}, head {overhead.head_factor:.3f}",
            "at borders": f"{overhead.border_ms:+.3f} ms per million elements",
            "whole networks": _fitting_errors(table),
            "smallest subnet": f"{table.predict_ms(table.space.smallest()):.2f} ms",
            "largest subnet": f"{table.predict_ms(table.space.largest()):.2f} ms",
        },
    )
    kinds = Table("block", "number", "p50 ms, minimum", "median", "maximum", "runs of each", "slowest", box=None)
    for kind in KINDS:
        entries = {block: entry for block, entry in table.entries.items() if kind_of(block) == kind}
        if entries:
            p50, runs = [entry.p50_ms for entry in entries.values()], [entry.runs for entry in entries.values()]
            slowest = max(entries, key=lambda block: entries[block].p50_ms)
            figures = (f"{value:.3f}" for value in (min(p50), float(np.median(p50)), max(p50)))
            kinds.add_row(kind, str(len(p50)), *figures, f"{min(runs)} to {max(runs)}", key_of(slowest))
    return Group(facts, "", kinds)


def predictions(table: LatencyTable, archs: Sequence[tuple[str, Arch]]) -> Table:
    """Return the predicted latency of archs with the share of each kind of block.

    Raises:
        UserError: An arch has a block that was not measured.
    """
    shown = Table("arch", "predicted ms", "fixed", *KINDS, box=None)
    for name, arch in archs:
        shares = dict.fromkeys(KINDS, 0.0)
        for block in blocks_of(arch, table.num_keypoints):
            shares[kind_of(block)] += table.share_ms(block)
        total = table.predict_ms(arch)
        shown.add_row(name, *(f"{value:.2f}" for value in (total, table.overhead.fixed_ms, *shares.values())))
    return shown


def verification(result: Mapping[str, Any]) -> RenderableType:
    """Return the accuracy of a table from the result of :func:`search.lut.verify.verify`."""
    agreement = result["agreement"]
    facts = _agreement(agreement, [row["p50_ms"] for row in result["networks"]])
    if (change := result["machine_change"]) is not None:
        at_this_speed = result["agreement_at_this_speed"]
        facts["machine now"] = f"{change:.3f} times the latencies of the table's own networks"
        facts["MAPE at this speed"] = f"{at_this_speed['mape']:.2f} % (worst {at_this_speed['worst']:.2f} %)"
    return _facts(f"{agreement['num_networks']} networks never used in fitting", facts)


def transferred(result: Transfer) -> RenderableType:
    """Return the accuracy of a moved table for networks that were left out, and its factors."""
    measured = [network.entry.p50_ms for network in result.table.networks]
    kinds = ", ".join(f"{kind} {factor:.3f}" for kind, factor in result.factors.kinds.items())
    facts = {
        **_agreement(asdict(result.left_out), measured),
        "noise of medians": f"{result.noise:.2f} %",
        "with one factor": f"mean error {result.common_mape:.2f} %",
        "factors": f"{kinds}, borders {result.factors.border:.3f}",
        "fixed part": f"{result.factors.fixed_ms:.3f} ms",
    }
    return _facts(f"{len(measured)} networks, each predicted from the others", facts)


def _agreement(accuracy: Mapping[str, Any], measured: Sequence[float]) -> dict[str, str]:
    noise = accuracy["repeat_noise"]
    return {
        "measured": f"{min(measured):.2f} to {max(measured):.2f} ms",
        "mean error (MAPE)": f"{accuracy['mape']:.2f} %",
        "worst error": f"{accuracy['worst']:.2f} %",
        "bias": f"{accuracy['bias']:+.2f} %",
        "Spearman": str(accuracy["spearman"]),
        "Kendall": str(accuracy["kendall"]),
        "repeat noise": "one round only" if noise is None else f"{noise:.2f} %",
    }


def _facts(title: str, facts: Mapping[str, str]) -> Table:
    table = Table(title=title, show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def _fitting_errors(table: LatencyTable) -> str:
    if not table.networks:
        return "none; the overhead is not fitted"
    errors = [abs(table.predict_ms(network.arch) / network.entry.p50_ms - 1) for network in table.networks]
    return f"{len(errors)} in fitting, mean error {100 * np.mean(errors):.2f} %, worst {100 * max(errors):.2f} %"
