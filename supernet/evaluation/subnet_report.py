"""The report of a training run: AP of the largest, the smallest and some random subnets."""

import logging
from collections.abc import Callable
from typing import Any

from supernet.cli.console import CONSOLE, progress_bar
from supernet.evaluation.metrics_table import format_metric, subnets_table
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.evaluation import Evaluation
from supernet.random_streams import Stream
from supernet.space import SearchSpace

LEAST_AP = 0.01
"""Where all subnets are below this AP, they find hardly anybody, and their order means nothing."""

logger = logging.getLogger(__name__)


def report_scores(
    scorer: SubnetScorer,
    space: SearchSpace,
    num_random: int,
    seed: int,
    on_scored: Callable[[str, Evaluation], None] | None = None,
) -> list[dict[str, Any]]:
    """Score the largest, the smallest and ``num_random`` random subnets, print a table and return its rows.

    ``on_scored`` is called after each evaluation, with the subnet's name. Only the main process prints; it warns if no
    subnet has learned to find people.
    """
    rng = Stream.REPORT_ARCHS.generator(seed)
    archs = [("largest", space.largest()), ("smallest", space.smallest())]
    archs += [(f"random {i}", space.sample(rng)) for i in range(num_random)]
    is_main = scorer.processes.is_main
    rows: list[dict[str, Any]] = []
    with progress_bar(disable=not is_main) as progress:
        task = progress.add_task("evaluating", total=len(archs), note="")
        for name, arch in archs:
            evaluation = scorer(arch)
            if on_scored is not None:
                on_scored(name, evaluation)
            rows.append({"subnet": name, "metrics": evaluation.metrics, "arch": arch.to_dict()})
            progress.update(task, advance=1, note=f"{name}: AP {format_metric(evaluation.metrics['AP'])}")
    if is_main:
        scored = zip(rows, archs, strict=True)
        cells = ((name, row["metrics"], arch.describe()) for row, (name, arch) in scored)
        CONSOLE.print(subnets_table("calibrated subnets on the test images", cells))
        if all(0 <= row["metrics"]["AP"] < LEAST_AP for row in rows):
            logger.warning("AP is about 0: the subnets find hardly anybody; train longer (steps or minutes)")
    return rows
