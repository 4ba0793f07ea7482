"""How an evolutionary search is run."""

from dataclasses import dataclass, field

from search.pareto import AP, check_objectives
from supernet.errors import UserError
from supernet.io.schema import check_least


@dataclass(frozen=True)
class BreedingSettings:
    """How children come from parents.

    Attributes:
        mutation_share: Part of the children that is made by mutation, the rest by crossover.
        mutation_rate: Probability that a value of a child of mutation changes; one changes at least.
    """

    mutation_share: float = 0.75
    mutation_rate: float = 0.05

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range."""
        for name in ("mutation_share", "mutation_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")


@dataclass(frozen=True)
class EvolutionSettings:
    """How to search.

    Attributes:
        population: New archs scored in each generation, the first of which is drawn at random.
        num_evaluations: Archs to score in all.
        parent_share: Parents of a generation over ``population`` (at least two); with several objectives as many
            parents as children, as in NSGA-II.
        breeding: How children come from parents.
        num_images: Images to score on, ascending: every arch on the first number of them, the best of these on
            the next, and so on.
        keep_share: The best part of all archs scored on one number of images that is scored on the next.
        objectives: "ap", alone or with names of costs that are to be low.
    """

    population: int
    num_evaluations: int
    parent_share: float = 0.35
    breeding: BreedingSettings = field(default_factory=BreedingSettings)
    num_images: tuple[int, ...] = (1,)
    keep_share: float = 1 / 3
    objectives: tuple[str, ...] = (AP,)

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range."""
        check_least(self, {"population": 1, "num_evaluations": 1})
        if not 0 <= self.parent_share <= 1:
            raise UserError(f"parent_share is {self.parent_share}; it must be from 0 to 1")
        if not 0 < self.keep_share <= 1:
            raise UserError(f"keep_share is {self.keep_share}; it must be above 0 and at most 1")
        if list(self.num_images) != sorted(set(self.num_images)) or not self.num_images or self.num_images[0] < 1:
            raise UserError(f"num_images is {list(self.num_images)}; give numbers of images, ascending, none twice")
        check_objectives(self.objectives)
