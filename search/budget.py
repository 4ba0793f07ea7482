"""Budgets: bounds on the costs of archs (no torch)."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from search import feasibility
from search.cost import COSTS, arch_costs, costs
from search.quantities import BYTES, COUNT, MILLISECONDS, Dimension, Rounding, Share, parse, readable
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.space import SearchSpace

LATENCY = "latency_ms"
_BOUNDED: dict[str, tuple[str, Dimension]] = {
    "macs": ("macs", COUNT),
    "macs_paper": ("macs_paper", COUNT),
    "params": ("params", COUNT),
    "memory": ("memory", BYTES),
    "weights": ("weight_bytes", BYTES),
    "latency": (LATENCY, MILLISECONDS),
}
"""The cost and its dimension, by name under ``constraint``."""
_NAMES = {cost: name for name, (cost, _) in _BOUNDED.items()}
_LEAST = "min_"
BOUND_NAMES = (*_BOUNDED, *(f"{_LEAST}{name}" for name in _BOUNDED))
"""Names of all bounds."""


class LatencyTable(Protocol):
    """The methods of a latency table that a budget uses."""

    def check(self, space: SearchSpace, num_keypoints: int) -> None:
        """Raise UserError if the table is not for ``space``."""

    def latency_ms(self, space: SearchSpace, genes: Genes) -> NDArray[np.float64]:
        """Return the predicted latency (N,) of genes (N, G)."""


@dataclass(frozen=True)
class CostModel:
    """All costs of the archs of one space.

    Attributes:
        space: The space.
        num_keypoints: K.
        latency_table: Source of predicted latencies; None for costs without latency.
    """

    space: SearchSpace
    num_keypoints: int
    latency_table: LatencyTable | None = None

    def __post_init__(self) -> None:
        """Raise UserError for a latency table for another space."""
        if self.latency_table is not None:
            self.latency_table.check(self.space, self.num_keypoints)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the costs."""
        return (*COSTS, *[LATENCY] * (self.latency_table is not None))

    def of(self, arch: Arch) -> dict[str, float]:
        """Return the costs of one arch by name."""
        values: dict[str, float] = dict(arch_costs(arch, self.num_keypoints))
        if self.latency_table is not None:
            values[LATENCY] = float(self.latency_table.latency_ms(self.space, self.space.encode([arch]))[0])
        return values

    def __call__(self, genes: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the costs (N,) of genes (N, G) by name: int64, and float64 for ``latency_ms``."""
        genes = self.space.layout.checked(genes)
        values: dict[str, NDArray[Any]] = dict(costs(self.space, genes, self.num_keypoints))
        if self.latency_table is not None:
            values[LATENCY] = self.latency_table.latency_ms(self.space, genes)
        return values

    @cached_property
    def extremes(self) -> dict[str, tuple[float, float]]:
        """Costs of the smallest and the largest arch, by name.

        No analytic cost falls when a choice grows (a test checks this), so these are the exact minimum and maximum of
        the space. For a latency they usually are.
        """
        least, greatest = self.of(self.space.smallest()), self.of(self.space.largest())
        return {name: (least[name], greatest[name]) for name in self.names}


@dataclass(frozen=True)
class Bound:
    """An inclusive bound on one cost: an upper bound, or a lower bound if ``is_least``."""

    cost: str
    value: float
    is_least: bool = False

    @property
    def name(self) -> str:
        """Name of the bound under ``constraint``."""
        return f"{_LEAST if self.is_least else ''}{_NAMES[self.cost]}"

    def excess(self, value: NDArray[Any]) -> NDArray[Any]:
        """Return the violation (N,) relative to the bound; at most 0 where the bound is met."""
        missed = self.value - value if self.is_least else value - self.value
        return np.asarray(missed / self.value)

    def show(self, value: float | None = None, rounding: Rounding = "nearest") -> str:
        """Return ``value``, or the value of the bound, with its unit."""
        return readable(self.value if value is None else value, rounding, _BOUNDED[_NAMES[self.cost]][1])

    def __str__(self) -> str:
        return f"constraint.{self.name}={self.show().replace(' ', '')}"


@dataclass(frozen=True)
class Budget:
    """Bounds on costs that an arch must all meet; without bounds, every arch fits."""

    bounds: tuple[Bound, ...]
    model: CostModel = field(compare=False)

    @classmethod
    def from_mapping(cls, constraint: Mapping[str, Any], model: CostModel) -> Self:
        """Read bounds such as ``{"macs": "60M", "min_params": "1M", "memory": "40%"}``; None sets no bound.

        Raises:
            UserError: An unknown cost, a value that is not a positive quantity, a latency without a table, or a lower
                bound above the upper one.
        """
        for name in constraint:
            if name not in BOUND_NAMES:
                near = difflib.get_close_matches(str(name), BOUND_NAMES, n=1)
                hint = f"did you mean constraint.{near[0]}?" if near else f"choose among {', '.join(BOUND_NAMES)}"
                raise UserError(f"there is no bound constraint.{name}; {hint}")
        bounds = tuple(_read(name, value, model) for name, value in constraint.items() if value is not None)
        for least in (bound for bound in bounds if bound.is_least):
            for most in bounds:
                if most.cost == least.cost and most.value < least.value:
                    raise UserError(f"{least} is above {most}, so no subnet can meet both; loosen one")
        return cls(bounds, model)

    @property
    def limits(self) -> tuple[tuple[str, float], ...]:
        """Pairs of a cost and its upper bound."""
        return tuple((bound.cost, bound.value) for bound in self.bounds if not bound.is_least)

    def fits(self, costs: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Return whether archs (N,) with these costs (N,) by name meet all bounds."""
        return np.asarray(self.violation(costs) == 0)

    def violation(self, costs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Return the sum (N,) of the relative violations of all bounds; 0 where all are met."""
        total = np.zeros(len(next(iter(costs.values()))))
        for bound in self.bounds:
            total += np.maximum(bound.excess(costs[bound.cost]), 0)
        return total

    def fits_arch(self, arch: Arch) -> bool:
        """Return whether ``arch`` meets all bounds."""
        return bool(self.fits({name: np.array([value]) for name, value in self.model.of(arch).items()})[0])

    def to_dict(self) -> dict[str, float]:
        """Return the values of the bounds by name: counts, bytes and milliseconds."""
        return {bound.name: bound.value for bound in self.bounds}

    def describe(self) -> str:
        """Return the bounds as text, such as "macs up to 60 M, params from 1 M"."""
        words = (f"{_NAMES[b.cost]} {'from' if b.is_least else 'up to'} {b.show()}" for b in self.bounds)
        return ", ".join(words) or "no budget"

    def check_reachable(self) -> None:
        """Check that some arch meets all bounds.

        Every single bound is compared with :attr:`CostModel.extremes`. If there are only upper or only lower bounds,
        the smallest or the largest arch then meets them all. Otherwise archs are tried; see :mod:`search.feasibility`.

        Raises:
            UserError: A bound is beyond the reachable range (the message has the range and the nearest arch), or no
                arch that meets all bounds was found (the message has the number of archs tried and the nearest).
        """
        space = self.model.space
        for bound in self.bounds:
            least, greatest = self.model.extremes[bound.cost]
            beyond = bound.value > greatest if bound.is_least else bound.value < least
            if beyond and bound.cost != LATENCY:
                nearest = space.largest() if bound.is_least else space.smallest()
                words = "above the largest" if bound.is_least else "below the smallest"
                ends = (bound.show(least, "up"), bound.show(greatest, "down"))
                raise UserError(
                    f"{bound} is {words} subnet of space {space.name} ({ends[bound.is_least]}); reachable are "
                    f"{ends[0]} to {ends[1]}; the nearest arch is {nearest.describe()}"
                )
        if any(map(self.fits_arch, (space.smallest(), space.largest()))):
            return
        closest = feasibility.nearest(space, lambda genes: self.violation(self.model(genes)))
        if closest.violation > 0:
            has = self.model.of(closest.arch)
            bounded = {bound.cost: f"{_NAMES[bound.cost]} {bound.show(has[bound.cost])}" for bound in self.bounds}
            raise UserError(
                f"no subnet of space {space.name} with {self.describe()} was found among {closest.num_tried:,} tried; "
                f"loosen a bound; the nearest has {', '.join(bounded.values())}: {closest.arch.describe()}"
            )


def shown_bound(name: str, value: Any) -> str:
    """Return the value of a bound in a file with its unit; as it stands there if it is no bound or no quantity."""
    if name not in BOUND_NAMES or type(value) not in (int, float) or not 0 < value < math.inf:
        return str(value)
    return readable(value, dimension=_BOUNDED[name.removeprefix(_LEAST)][1])


def _read(name: str, value: Any, model: CostModel) -> Bound:
    is_least = name.startswith(_LEAST)
    cost, dimension = _BOUNDED[name.removeprefix(_LEAST)]
    quantity = parse(value, dimension, f"constraint.{name}")
    if cost not in model.names:
        raise UserError(
            f"constraint.{name} needs a latency table; build it with `python -m search.lut build` and give it as "
            "latency_table=FILE"
        )
    if isinstance(quantity, Share):
        quantity = quantity.of_largest * type(quantity.of_largest)(model.extremes[cost][1])
    if cost == LATENCY:
        return Bound(cost, float(quantity), is_least)
    return Bound(cost, math.ceil(quantity) if is_least else math.floor(quantity), is_least)
