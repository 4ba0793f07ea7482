"""Coverage of a search space: how often training used each choice, and weights without any gradient."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from supernet.arch import Arch
from supernet.space import SearchSpace
from supernet.training.phases import ScheduledPhase
from supernet.training.trainer import StepReport, Trainer

_MAX_NAMED = 5
"""Names of untrained weights in the summary."""


class Coverage:
    """Counts for every phase how often each choice of its elastic part of the space was trained.

    Args:
        scheduled: The phases.
    """

    def __init__(self, scheduled: Sequence[ScheduledPhase]) -> None:
        self.counts: dict[str, dict[str, dict[int, int]]] = {}
        for item in scheduled:
            tables = self.counts.setdefault(item.phase.name, {})
            for place, choices in choices_of(item.space):
                if place != "resolution" or item.phase.resolution_scale is None:
                    tables.setdefault(place, {}).update(dict.fromkeys(choices, 0))

    def follow(self, report: StepReport) -> None:
        """Count the choices of the subnets of one step."""
        tables = self.counts[report.phase]
        for arch in report.archs:
            for place, choice in values_of(arch):
                if place in tables and choice in tables[place]:
                    tables[place][choice] += 1

    def never_trained(self) -> list[str]:
        """Return the choices of elastic dimensions that no phase trained, as "stages[0].depth 2"."""
        totals: dict[str, dict[int, int]] = {}
        for tables in self.counts.values():
            for place, counts in tables.items():
                total = totals.setdefault(place, {})
                for choice, count in counts.items():
                    total[choice] = total.get(choice, 0) + count
        return [
            f"{place} {choice}" for place, counts in totals.items() for choice, count in counts.items() if not count
        ]

    def state(self) -> dict[str, Any]:
        """Return the counts as plain values."""
        return {
            phase: {place: dict(counts) for place, counts in tables.items()} for phase, tables in self.counts.items()
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        for phase, tables in state.items():
            for place, counts in tables.items():
                self.counts[phase][place] = dict(counts)


def choices_of(space: SearchSpace) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each dimension of ``space`` by its place, with its choices; the blocks of a stage count together."""
    yield "resolution", space.resolutions
    yield "stem_width", space.stem_widths
    for i, stage in enumerate(space.stages):
        yield f"stages[{i}].width", stage.widths
        yield f"stages[{i}].depth", stage.depths
        yield f"stages[{i}].expand_ratio", stage.expand_ratios
        yield f"stages[{i}].kernel_size", stage.kernel_sizes
    for i, widths in enumerate(space.deconv_widths):
        yield f"deconv_widths[{i}]", widths


def values_of(arch: Arch) -> Iterator[tuple[str, int]]:
    """Yield the choices that ``arch`` makes, under the places of :func:`choices_of`."""
    yield "resolution", arch.resolution
    yield "stem_width", arch.stem_width
    for i, stage in enumerate(arch.stages):
        yield f"stages[{i}].width", stage.width
        yield f"stages[{i}].depth", stage.depth
        for ratio in stage.expand_ratios:
            yield f"stages[{i}].expand_ratio", ratio
        for size in stage.kernel_sizes:
            yield f"stages[{i}].kernel_size", size
    for i, width in enumerate(arch.deconv_widths):
        yield f"deconv_widths[{i}]", width


def untrained_weights(trainer: Trainer) -> dict[str, Any]:
    """Return the number of weights and of weights that never had a gradient, with the first names of the latter.

    The optimizer's second moment of a weight is 0 until its first gradient and above 0 from then on. Weights that no
    subnet can use do not count.
    """
    squares: dict[str, Tensor] = trainer.adam.moments_by_name(trainer.weights)[1]
    for name, used in trainer.supernet.partly_used_transforms().items():
        squares[f"kernel_transforms.{name}"] = squares[f"kernel_transforms.{name}"][:, used]
    untrained = {name: count for name, square in squares.items() if (count := int((square == 0).sum()))}
    return {
        "num_weights": sum(square.numel() for square in squares.values()),
        "num_never_trained": sum(untrained.values()),
        "never_trained": dict(list(untrained.items())[:_MAX_NAMED]),
    }
