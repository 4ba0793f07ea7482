"""What a training run ends with: the AP of the largest, the smallest and some random subnets."""

from collections.abc import Callable
from typing import Any

import numpy as np
from rich.table import Table

from supernet.cli.console import CONSOLE, progress_bar
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.evaluation import Evaluation
from supernet.space import SearchSpace


def report_scores(
    scorer: SubnetScorer,
    space: SearchSpace,
    num_random: int,
    seed: int,
    on_scored: Callable[[str, Evaluation], None] | None = None,
) -> list[dict[str, Any]]:
    """Score the largest, the smallest and ``num_random`` random subnets, print a table and return its rows.

    ``on_scored`` follows each evaluation, with the subnet's name.
    """
    rng = np.random.default_rng((3, seed))
    archs = [("largest", space.largest()), ("smallest", space.smallest())]
    archs += [(f"random {i}", space.sample(rng)) for i in range(num_random)]
    table = Table("subnet", "AP", "AP50", "AP75", "AR", "arch", title="calibrated subnets on the test images")
    rows: list[dict[str, Any]] = []
    with progress_bar() as progress:
        task = progress.add_task("evaluating", total=len(archs), note="")
        for name, arch in archs:
            found = scorer(arch)
            if on_scored is not None:
                on_scored(name, found)
            metrics = found.metrics
            rows.append({"subnet": name, "metrics": metrics, "arch": arch.to_dict()})
            table.add_row(name, *(f"{metrics[key]:.3f}" for key in ("AP", "AP50", "AP75", "AR")), arch.describe())
            progress.update(task, advance=1, note=f"{name}: AP {metrics['AP']:.3f}")
    CONSOLE.print(table)
    return rows
