"""What a table says, for people."""

from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from supernet.arch import Arch
from supernet.costs.latency_blocks import KINDS, blocks_of, key_of, kind_of
from supernet.costs.latency_table import LatencyTable


def overview(table: LatencyTable) -> RenderableType:
    """Return a table's settings, its overhead, how its networks agree with it, and its blocks by kind."""
    facts = Table(title=f"latency table of space {table.space.name}", show_header=False, box=None)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    overhead, settings = table.overhead, table.settings
    for name, value in (
        ("measured with", settings.describe()),
        ("system", settings.system),
        ("resolutions", ", ".join(map(str, table.space.resolutions))),
        ("keypoints", str(table.num_keypoints)),
        ("space digest", table.space.digest()),
        ("fixed part", f"{overhead.fixed_ms:.3f} ms; a call {overhead.call_ms:.4f} ms"),
        ("factors", f"backbone {overhead.backbone_factor:.3f}, head {overhead.head_factor:.3f}"),
        ("at borders", f"{overhead.border_ms:+.3f} ms per million numbers"),
        ("whole networks", _fit(table)),
        ("smallest subnet", f"{table.predict_ms(table.space.smallest()):.2f} ms"),
        ("largest subnet", f"{table.predict_ms(table.space.largest()):.2f} ms"),
    ):
        facts.add_row(name, value)
    kinds = Table("block", "number", "p50 ms, least", "median", "most", "runs of each", "longest", box=None)
    for kind in KINDS:
        entries = {block: entry for block, entry in table.entries.items() if kind_of(block) == kind}
        if entries:
            p50, runs = [each.p50_ms for each in entries.values()], [each.runs for each in entries.values()]
            longest = max(entries, key=lambda block: entries[block].p50_ms)
            figures = (f"{value:.3f}" for value in (min(p50), float(np.median(p50)), max(p50)))
            kinds.add_row(kind, str(len(p50)), *figures, f"{min(runs)} to {max(runs)}", key_of(longest))
    return Group(facts, "", kinds)


def parts(table: LatencyTable, archs: Sequence[tuple[str, Arch]]) -> RenderableType:
    """Return the predicted latency of archs with the share of each part.

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


def _fit(table: LatencyTable) -> str:
    if not table.networks:
        return "none; the overhead is not fitted"
    errors = [abs(table.predict_ms(each.arch) / each.entry.p50_ms - 1) for each in table.networks]
    return f"{len(errors)} in fitting, mean error {100 * np.mean(errors):.2f} %, worst {100 * max(errors):.2f} %"
