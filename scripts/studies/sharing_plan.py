"""The plan of the study ``python -m scripts.studies.weight_sharing`` and its parts (no torch)."""

from dataclasses import asdict, dataclass
from typing import Any

ALONE = "alone"
RECIPE = "recipe"
"""Strategy: the phases of the experiment; the other strategies are files of ``conf/phases``."""


@dataclass(frozen=True)
class StudyPlan:
    """The options of a study that cannot change later.

    Attributes:
        space: Name of the search space.
        steps: Optimizer steps of an arch that is trained alone.
        num_archs: Number of archs to compare.
        arch_seed: Seed of the choice of archs.
        strategies: How supernets are trained: files of ``conf/phases``, or "recipe" for the experiment's own phases.
        prices: Multiply-adds of the training of a supernet, in those of the mean training alone.
        tuning_steps: Steps of fine-tuning each arch after it is cut from a supernet; 0: none.
        experiment: Name of a recipe for all trainings, if any.
        new_head: Whether only the backbone starts from trained weights.
        changes: Options of ``conf/train.yaml`` for every training, as ``key=value``.
    """

    space: str
    steps: int
    num_archs: int
    arch_seed: int
    strategies: tuple[str, ...]
    prices: tuple[float, ...]
    tuning_steps: int
    experiment: str | None
    new_head: bool
    changes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, with lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Part:
    """One part of a study: a training and the scores of its network or subnets.

    Attributes:
        kind: "alone" or a strategy.
        seed: Seed of the training.
        arch: Number of the arch that is trained alone, or cut from the supernet and fine-tuned; None for a supernet.
        price: Of the supernet; None for an arch alone.
    """

    kind: str
    seed: int
    arch: int | None = None
    price: float | None = None

    @property
    def name(self) -> str:
        """Name on the command line, the same for all seeds."""
        name = self.kind if self.price is None else f"{self.kind}-{self.price:g}x"
        return name if self.arch is None else f"{name}:{self.arch}"

    @property
    def file_name(self) -> str:
        """Name of the files and folders of this part."""
        return f"seed{self.seed}_{self.name.replace(':', '_')}"

    @property
    def is_tuning(self) -> bool:
        """Whether it fine-tunes a subnet."""
        return self.arch is not None and self.price is not None

    @property
    def supernet(self) -> "Part":
        """The part that trains the supernet of this fine-tuning."""
        return Part(self.kind, self.seed, None, self.price)
