"""Evolutionary search for the arch with the highest score among those that fit a budget (no torch).

Source: Once-for-All (arXiv 1908.09791), section 3.4 and its published settings (population 100, a quarter as
parents, half of the children by mutation at rate 0.1, half by crossover), which LitePose (arXiv 2205.01271) follows.
We differ in three ways: no arch is scored twice; parents are the best of everything scored so far, so that a good
arch is never lost; and where archs that fit are too rare to be hit by chance, drawn ones are shrunk until they fit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np

from supernet.arch import Arch
from supernet.errors import UserError
from supernet.space import SearchSpace

MAX_TRIES = 200
"""Proposals for one member of a generation; the second half of them is shrunk where it does not fit."""

Origin = Literal["random", "mutation", "crossover"]
T = TypeVar("T")


@dataclass(frozen=True)
class EvolutionSettings:
    """How to search.

    Attributes:
        population: New archs scored in each generation.
        generations: Number of generations; the first is drawn at random.
        parent_share: Parents of a generation over ``population``; at least two parents are kept.
        mutation_share: Part of the children that is made by mutation, the rest by crossover.
        mutation_rate: Probability that a value of an arch is drawn anew in a mutation.
    """

    population: int
    generations: int
    parent_share: float = 0.25
    mutation_share: float = 0.5
    mutation_rate: float = 0.1

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range."""
        for name in ("population", "generations"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("parent_share", "mutation_share", "mutation_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")


@dataclass(frozen=True)
class Candidate:
    """A scored arch, with its place in the search; ``order`` counts all scored archs from 0."""

    arch: Arch
    score: float
    generation: int
    order: int
    origin: Origin


@dataclass(frozen=True)
class Result:
    """The best candidate (the first scored, of equals) and all candidates in the order they were scored."""

    best: Candidate
    archive: tuple[Candidate, ...]


def evolve(
    space: SearchSpace,
    score: Callable[[Arch], float],
    fits: Callable[[Arch], bool],
    settings: EvolutionSettings,
    rng: np.random.Generator,
    on_evaluated: Callable[[Candidate], None] | None = None,
) -> Result:
    """Search ``space`` for the arch of the highest score; ``score`` sees only archs that fit, each once.

    At most ``population * generations`` archs are scored; fewer where no more new ones that fit are found within
    ``MAX_TRIES`` proposals a member.

    Args:
        space: What to draw from.
        score: Higher is better.
        fits: Whether an arch is within the budget.
        settings: How to search.
        rng: The only source of randomness: an equal state gives an equal result.
        on_evaluated: Called with each candidate when it has been scored.

    Raises:
        UserError: No arch that fits was found.
        ValueError: A score is not finite.
    """
    archive: dict[Arch, Candidate] = {}
    num_parents = max(2, round(settings.parent_share * settings.population))
    num_mutations = round(settings.mutation_share * settings.population)
    for generation in range(settings.generations):
        before = len(archive)
        parents = [c.arch for c in sorted(archive.values(), key=lambda c: -c.score)[:num_parents]]
        for slot in range(settings.population):
            proposed = None
            if parents:
                origin: Origin = "mutation" if slot < num_mutations or len(parents) < 2 else "crossover"
                child = partial(_child, space, parents, rng, settings.mutation_rate if origin == "mutation" else None)
                proposed = _propose(child, space, fits, rng, archive)
            if proposed is None:
                origin = "random"
                proposed = _propose(partial(space.sample, rng), space, fits, rng, archive)
            if proposed is None:
                break
            value = float(score(proposed))
            if not math.isfinite(value):
                raise ValueError(f"the score of {proposed.describe()} is {value}; scores must be finite numbers")
            archive[proposed] = Candidate(proposed, value, generation, len(archive), origin)
            if on_evaluated:
                on_evaluated(archive[proposed])
        if len(archive) == before:
            break
    if not archive:
        raise UserError(f"no arch of space {space.name} fits the budget; allow more")
    return Result(max(archive.values(), key=lambda c: (c.score, -c.order)), tuple(archive.values()))


def draw_fitting(
    space: SearchSpace, fits: Callable[[Arch], bool], rng: np.random.Generator, num: int, max_tries: int
) -> tuple[list[Arch], int]:
    """Draw up to ``num`` distinct archs that fit, uniformly as far as ``max_tries`` draws reach.

    Where they do not reach, further archs are random ones shrunk until they fit, which lie near the budget's edge.

    Returns:
        The archs, and how many of them (the first ones) are uniform draws.
    """
    found: dict[Arch, None] = {}
    for _ in range(max_tries if num else 0):
        arch = space.sample(rng)
        if fits(arch):
            found[arch] = None
            if len(found) == num:
                return list(found), num
    num_uniform = len(found)
    for _ in range(MAX_TRIES):
        if len(found) == num:
            break
        shrunk = shrink(space, space.sample(rng), fits, rng)
        if shrunk is not None:
            found[shrunk] = None
    return list(found), num_uniform


def shrink(space: SearchSpace, arch: Arch, fits: Callable[[Arch], bool], rng: np.random.Generator) -> Arch | None:
    """Lower random choices of ``arch`` by one step each until it fits; None if not even the smallest arch fits."""
    while not fits(arch):
        steps = _steps_down(space, arch)
        if not steps:
            return None
        arch = steps[int(rng.integers(len(steps)))]()
    return arch


def _propose(
    draw: Callable[[], Arch],
    space: SearchSpace,
    fits: Callable[[Arch], bool],
    rng: np.random.Generator,
    known: dict[Arch, Candidate],
) -> Arch | None:
    """Draw until an arch fits and is not known; from half of the tries on, shrink those that do not fit."""
    for attempt in range(MAX_TRIES):
        drawn = draw()
        if fits(drawn):
            found: Arch | None = drawn
        else:
            found = shrink(space, drawn, fits, rng) if attempt >= MAX_TRIES // 2 else None
        if found is not None and found not in known:
            return found
    return None


def _child(space: SearchSpace, parents: list[Arch], rng: np.random.Generator, mutation_rate: float | None) -> Arch:
    """Mutate a random parent, or cross two different ones if there is no rate."""
    if mutation_rate is not None:
        return space.mutate(parents[int(rng.integers(len(parents)))], rng, mutation_rate)
    first, second = rng.choice(len(parents), size=2, replace=False)
    return space.crossover(parents[first], parents[second], rng)


def _steps_down(space: SearchSpace, arch: Arch) -> list[Callable[[], Arch]]:
    """Return, for each choice of ``arch`` that is not at its least, a function that makes the arch one step lower."""

    def below(choices: tuple[int, ...], value: int) -> tuple[int, ...]:
        position = choices.index(value)
        return choices[max(0, position - 1) : position]

    changes: list[dict[str, Any]] = [{"resolution": value} for value in below(space.resolutions, arch.resolution)]
    changes += [{"stem_width": value} for value in below(space.stem_widths, arch.stem_width)]
    for i, (widths, width) in enumerate(zip(space.deconv_widths, arch.deconv_widths, strict=True)):
        changes += [{"deconv_widths": _with(arch.deconv_widths, i, value)} for value in below(widths, width)]
    steps: list[Callable[[], Arch]] = [partial(replace, arch, **change) for change in changes]

    for i, (choices, stage) in enumerate(zip(space.stages, arch.stages, strict=True)):
        changes = [{"width": value} for value in below(choices.widths, stage.width)]
        for depth in below(choices.depths, stage.depth):
            changes.append({"expand_ratios": stage.expand_ratios[:depth], "kernel_sizes": stage.kernel_sizes[:depth]})
        for name, allowed in (("expand_ratios", choices.expand_ratios), ("kernel_sizes", choices.kernel_sizes)):
            values = getattr(stage, name)
            for j, value in enumerate(values):
                changes += [{name: _with(values, j, less)} for less in below(allowed, value)]
        steps += [partial(_with_stage, arch, i, **change) for change in changes]
    return steps


def _with_stage(arch: Arch, i: int, **change: Any) -> Arch:
    return replace(arch, stages=_with(arch.stages, i, replace(arch.stages[i], **change)))


def _with(values: tuple[T, ...], i: int, value: T) -> tuple[T, ...]:
    return (*values[:i], value, *values[i + 1 :])
