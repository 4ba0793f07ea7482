"""What a search run reports: candidates and random baseline as plain values, a picture and a table (no torch)."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from search import pareto
from search.budget import Budget, readable
from search.cost import COSTS, arch_costs
from search.evolution import Candidate
from supernet.arch import Arch


@dataclass(frozen=True)
class Checked:
    """A subnet of the final check, with its metrics on test pictures."""

    arch: Arch
    metrics: dict[str, float]

    @property
    def ap(self) -> float:
        """Average precision."""
        return self.metrics["AP"]


@dataclass(frozen=True)
class FinalCheck:
    """The chosen subnet beside random ones within the same budget; the first ``num_uniform`` are uniform draws."""

    chosen: Checked
    baseline: tuple[Checked, ...]
    num_uniform: int


def candidate_row(candidate: Candidate, metrics: Mapping[str, float], num_keypoints: int) -> dict[str, Any]:
    """Return one candidate as plain values; ``metrics`` are those on validation pictures."""
    return {
        "order": candidate.order,
        "generation": candidate.generation,
        "origin": candidate.origin,
        "digest": candidate.arch.digest(),
        "costs": arch_costs(candidate.arch, num_keypoints),
        "metrics": dict(metrics),
        "arch": candidate.arch.to_dict(),
    }


def baseline_figures(check: FinalCheck, num_keypoints: int) -> dict[str, Any]:
    """Return the random subnets and the mean, standard deviation and best of their AP, None where there are too few."""
    aps = [one.ap for one in check.baseline]
    return {
        "num": len(aps),
        "num_uniform": check.num_uniform,
        "ap_mean": statistics.mean(aps) if aps else None,
        "ap_sd": statistics.stdev(aps) if len(aps) > 1 else None,
        "ap_best": max(aps, default=None),
        "subnets": [
            {"metrics": one.metrics, "costs": arch_costs(one.arch, num_keypoints), "arch": one.arch.to_dict()}
            for one in check.baseline
        ],
    }


def draw(path: Path, budget: Budget, archive: Sequence[Candidate], check: FinalCheck, num_keypoints: int) -> None:
    """Draw search and final check over the first limited cost, or over MACs without a budget."""
    cost_name, limit = budget.limits[0] if budget.limits else ("macs", None)

    def point(arch: Arch, ap: float) -> pareto.Point:
        return pareto.Point(COSTS[cost_name](arch, num_keypoints), ap)

    candidates = [point(candidate.arch, candidate.score) for candidate in archive]
    chosen = next(i for i, candidate in enumerate(archive) if candidate.arch == check.chosen.arch)
    final = point(check.chosen.arch, check.chosen.ap)
    baseline = [point(one.arch, one.ap) for one in check.baseline]
    pareto.draw(path, cost_name, limit, candidates, candidates[chosen], final, baseline)


def table(check: FinalCheck, num_images: int, num_keypoints: int) -> Table:
    """Return the final check for the console: the chosen subnet, the best of the random ones, and their mean."""
    found = Table("subnet", "AP", "MACs", "parameters", "arch", title=f"final check on {num_images} test pictures")

    def add(label: str, one: Checked) -> None:
        costs = arch_costs(one.arch, num_keypoints)
        macs, params = readable(costs["macs"]), readable(costs["params"])
        found.add_row(label, f"{one.ap:.3f}", macs, params, one.arch.describe())

    add("chosen", check.chosen)
    if check.baseline:
        add("best random", max(check.baseline, key=lambda one: one.ap))
        figures = baseline_figures(check, num_keypoints)
        spread = "" if figures["ap_sd"] is None else f" ± {figures['ap_sd']:.3f}"
        macs, params = (
            readable(round(statistics.mean(subnet["costs"][name] for subnet in figures["subnets"])))
            for name in ("macs", "params")
        )
        found.add_row("mean random", f"{figures['ap_mean']:.3f}{spread}", macs, params, f"{figures['num']} subnets")
    return found
