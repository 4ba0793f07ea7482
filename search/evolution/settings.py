"""Settings of an evolutionary search."""

from dataclasses import dataclass, field

from search.objectives import AP, check_objectives
from supernet.errors import UserError
from supernet.io.schema import check_numbers


@dataclass(frozen=True)
class OffspringSettings:
    """How children are made from parents.

    Attributes:
        mutation_share: Share of the children made by mutation; crossover makes the others.
        mutation_rate: Probability that a mutation changes a value. It always changes at least one.
    """

    mutation_share: float = 0.75
    mutation_rate: float = 0.05

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range."""
        check_numbers(self, "mutation_share", "mutation_rate", least=0, most=1)


@dataclass(frozen=True)
class EvolutionSettings:
    """Settings of :class:`search.evolution.engine.Evolution`.

    Attributes:
        population: New archs in each generation. The first generation is random.
        num_evaluations: Archs to score in total.
        parent_share: Number of parents divided by ``population``; at least two parents are used. With several
            objectives there are as many parents as children, as in NSGA-II.
        offspring: How children are made from parents.
        num_images: Numbers of images to score on, ascending (the rungs of successive halving): every arch is scored on
            the first number, the best of these on the second, and so on.
        keep_share: Share of the archs scored on one number of images, the best ones, to score on the next.
        objectives: "ap", alone or with names of costs to minimize.
    """

    population: int
    num_evaluations: int
    parent_share: float = 0.35
    offspring: OffspringSettings = field(default_factory=OffspringSettings)
    num_images: tuple[int, ...] = (1,)
    keep_share: float = 1 / 3
    objectives: tuple[str, ...] = (AP,)

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range."""
        check_numbers(self, "population", "num_evaluations", least=1)
        check_numbers(self, "parent_share", least=0, most=1)
        check_numbers(self, "keep_share", above=0, most=1)
        if list(self.num_images) != sorted(set(self.num_images)) or not self.num_images or self.num_images[0] < 1:
            raise UserError(f"num_images must be ascending positive numbers, got {list(self.num_images)}")
        check_objectives(self.objectives)
