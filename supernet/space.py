"""Search space: the choices of every elastic dimension, with sampling, mutation and crossover (no torch)."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from supernet.arch import LARGEST_WIDTH, MOST_BLOCKS, Arch, Stage
from supernet.errors import UserError
from supernet.genes import GeneLayout, Genes
from supernet.io import files
from supernet.io.conf_folder import CONF_FOLDER
from supernet.io.limits import check_limits
from supernet.io.plain_values import check_keys, entries, integers
from supernet.stage_choices import StageChoices as StageChoices
from supernet.stage_choices import check_value

DIMENSIONS = ("resolution", "kernel_size", "depth", "expand_ratio", "width")
"""Elastic dimensions by name; ``width`` covers stem, stages and deconvolutions."""
T = TypeVar("T")
_MOST_YAML = 10**5
"""Limit on the bytes of a file, because YAML is read slowly."""


@dataclass(frozen=True)
class SearchSpace:
    """Every LitePose whose values are among the choices, each tuple ascending.

    Every combination of choices is an arch of the space, so sampling needs no rejection loop.
    """

    name: str
    resolutions: tuple[int, ...]
    stem_widths: tuple[int, ...]
    stages: tuple[StageChoices, ...]
    deconv_widths: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        """Raise UserError for empty, repeated or unordered choices and for values that no LitePose can have."""
        for place, choices in self._choices():
            most = MOST_BLOCKS if place.endswith(".depths") else LARGEST_WIDTH
            if not choices or list(choices) != sorted(set(choices)) or choices[0] <= 0 or choices[-1] > most:
                raise UserError(
                    f"space {self.name}: {place} must be distinct values from 1 to {most} in ascending order, "
                    f"got {list(choices)}"
                )
        for resolution in self.resolutions:
            replace(self.smallest(), resolution=resolution)
        sizes = {size for stage in self.stages for size in stage.kernel_sizes}
        if not sizes <= {3, 5, 7}:
            raise UserError(f"space {self.name}: kernel_sizes must be among 3, 5 and 7, got {sorted(sizes)}")
        self.largest()

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Build a space from plain mappings and lists.

        Raises:
            UserError: An unknown or missing key, or a choice that is not a list of whole numbers.
        """
        check_keys("the space", value, {field.name for field in fields(cls)})
        name = value["name"]
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 100:
            raise UserError(f"the space's name must be 1 to 100 printable characters, got {name!r:.120}")
        stages, deconv_widths = (entries(f"space {name}: {key}", value[key]) for key in ("stages", "deconv_widths"))
        places = (f"space {name}: stages[{i}]" for i in range(len(stages)))
        return cls(
            name,
            integers("resolutions", value["resolutions"]),
            integers("stem_widths", value["stem_widths"]),
            tuple(map(StageChoices.from_dict, places, stages)),
            tuple(integers(f"deconv_widths[{i}]", widths) for i, widths in enumerate(deconv_widths)),
        )

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Read a space by its name in ``conf/space``, or from a YAML file.

        Raises:
            UserError: There is no such space or file, or it is not a YAML file of a space.
        """
        path = Path(name_or_path)
        folder = CONF_FOLDER / "space"
        packaged = folder / f"{name_or_path}.yaml"
        if path.suffix not in (".yaml", ".yml") and not packaged.is_file():
            known = sorted(entry.stem for entry in folder.glob("*.yaml"))
            raise UserError(
                f"there is no space named {str(name_or_path)!r}; choose one of {known} or give a .yaml file"
            )
        try:
            is_file = path.suffix in (".yaml", ".yml")
            content = files.read_bytes(path, "search space", _MOST_YAML) if is_file else packaged.read_bytes()
            value = yaml.safe_load(content.decode("utf-8-sig"))
            check_limits(value, len(content))
        except UserError:
            raise
        except (yaml.YAMLError, ValueError, RecursionError, TypeError, LookupError, AttributeError) as error:
            raise UserError(
                f"cannot read search space {name_or_path} ({error}); give a YAML file like conf/space/nano.yaml"
            ) from error
        try:
            return cls.from_dict(value)
        except UserError as error:
            raise UserError(f"search space {name_or_path}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and mappings that :meth:`from_dict` reads."""
        stages = [{f.name: _plain(getattr(stage, f.name)) for f in fields(StageChoices)} for stage in self.stages]
        return {
            "name": self.name,
            "resolutions": list(self.resolutions),
            "stem_widths": list(self.stem_widths),
            "stages": stages,
            "deconv_widths": [list(widths) for widths in self.deconv_widths],
        }

    def digest(self) -> str:
        """Return 12 hexadecimal digits that identify the choices, regardless of the name."""
        choices = self.to_dict() | {"name": ""}
        return hashlib.sha256(json.dumps(choices, sort_keys=True).encode()).hexdigest()[:12]

    def count(self) -> int:
        """Return the exact number of distinct archs."""
        total = len(self.resolutions) * len(self.stem_widths) * math.prod(len(widths) for widths in self.deconv_widths)
        for stage in self.stages:
            per_block = len(stage.expand_ratios) * len(stage.kernel_sizes)
            total *= len(stage.widths) * sum(per_block**depth for depth in stage.depths)
        return total

    def largest(self) -> Arch:
        """Return the arch with the largest value of every choice."""
        return self._extreme(-1)

    def smallest(self) -> Arch:
        """Return the arch with the smallest value of every choice."""
        return self._extreme(0)

    def restrict(self, elastic: Iterable[str]) -> "SearchSpace":
        """Return the subspace in which only the named dimensions vary and all others have their largest value.

        Raises:
            UserError: A name that is not in ``DIMENSIONS``.
        """
        free = set(elastic)
        if unknown := free - set(DIMENSIONS):
            raise UserError(f"unknown elastic dimension {sorted(unknown)[0]!r}; choose among {list(DIMENSIONS)}")

        def keep(dimension: str, choices: tuple[int, ...]) -> tuple[int, ...]:
            return choices if dimension in free else choices[-1:]

        stages = tuple(
            StageChoices(
                keep("width", stage.widths),
                keep("depth", stage.depths),
                stage.stride,
                keep("expand_ratio", stage.expand_ratios),
                keep("kernel_size", stage.kernel_sizes),
            )
            for stage in self.stages
        )
        return SearchSpace(
            self.name,
            keep("resolution", self.resolutions),
            keep("width", self.stem_widths),
            stages,
            tuple(keep("width", widths) for widths in self.deconv_widths),
        )

    @cached_property
    def layout(self) -> GeneLayout:
        """The meaning of each column of the genes."""
        return GeneLayout(self.resolutions, self.stem_widths, self.stages, self.deconv_widths)

    def encode(self, archs: Iterable[Arch]) -> Genes:
        """Return the genes (N, G) of archs, see :mod:`supernet.genes`; a UserError names the first value outside."""
        return self.layout.encode(archs)

    def decode(self, genes: NDArray[Any]) -> list[Arch]:
        """Return the archs of genes (N, G); a UserError names the first gene outside, with its stage and block."""
        return self.layout.decode(genes)

    def sample(self, rng: np.random.Generator) -> Arch:
        """Draw every choice independently and uniformly."""
        return Arch(
            _pick(rng, self.resolutions),
            _pick(rng, self.stem_widths),
            tuple(_sample_stage(rng, stage) for stage in self.stages),
            tuple(_pick(rng, widths) for widths in self.deconv_widths),
        )

    def mutate(self, arch: Arch, rng: np.random.Generator, rate: float) -> Arch:
        """Redraw each value of ``arch`` with probability ``rate``; blocks that a greater depth adds are random."""
        return self._mix((arch,), self.sample(rng), rng, rate)

    def crossover(self, first: Arch, second: Arch, rng: np.random.Generator) -> Arch:
        """Take each value from either parent with equal probability, and each block from a parent that has it."""
        return self._mix((first, second), self.sample(rng), rng, 0.0)

    def check(self, arch: Arch) -> None:
        """Raise UserError for an arch outside the space, naming the first such value, its place and what is allowed."""
        check_value("resolution", arch.resolution, self.resolutions)
        check_value("stem width", arch.stem_width, self.stem_widths)
        for i, (stage, choices) in enumerate(zip(arch.stages, self.stages, strict=True)):
            check_value(f"stage {i}: width", stage.width, choices.widths)
            check_value(f"stage {i}: depth", stage.depth, choices.depths)
            check_value(f"stage {i}: stride", stage.stride, (choices.stride,))
            for j, (ratio, kernel_size) in enumerate(stage.blocks()):
                check_value(f"stage {i}, block {j}: expand ratio", ratio, choices.expand_ratios)
                check_value(f"stage {i}, block {j}: kernel size", kernel_size, choices.kernel_sizes)
        for i, (width, widths) in enumerate(zip(arch.deconv_widths, self.deconv_widths, strict=True)):
            check_value(f"deconv {i}: width", width, widths)

    def __contains__(self, arch: object) -> bool:
        """Return whether ``arch`` is an Arch with every value among the choices."""
        if not isinstance(arch, Arch):
            return False
        try:
            self.check(arch)
        except UserError:
            return False
        return True

    def _choices(self) -> list[tuple[str, tuple[int, ...]]]:
        choices = [("resolutions", self.resolutions), ("stem_widths", self.stem_widths)]
        for i, stage in enumerate(self.stages):
            choices += [
                (f"stages[{i}].{f.name}", getattr(stage, f.name)) for f in fields(StageChoices) if f.name != "stride"
            ]
        return choices + [(f"deconv_widths[{i}]", widths) for i, widths in enumerate(self.deconv_widths)]

    def _extreme(self, end: int) -> Arch:
        stages = (
            Stage(
                s.widths[end], s.stride, (s.expand_ratios[end],) * s.depths[end], (s.kernel_sizes[end],) * s.depths[end]
            )
            for s in self.stages
        )
        deconv = tuple(widths[end] for widths in self.deconv_widths)
        return Arch(self.resolutions[end], self.stem_widths[end], tuple(stages), deconv)

    def _mix(self, parents: Sequence[Arch], fresh: Arch, rng: np.random.Generator, rate: float) -> Arch:
        """Take each value from a random parent, or with probability ``rate`` from ``fresh``."""

        def take(values: Sequence[T], new: T) -> T:
            return new if not values or rng.random() < rate else values[int(rng.integers(len(values)))]

        stages = []
        for i, (drawn, choices) in enumerate(zip(fresh.stages, self.stages, strict=True)):
            stages_here = [parent.stages[i] for parent in parents]
            width = take([stage.width for stage in stages_here], drawn.width)
            depth = take([stage.depth for stage in stages_here], drawn.depth)
            blocks = []
            for j in range(depth):
                have = [stage for stage in stages_here if j < stage.depth]
                ratio = take([stage.expand_ratios[j] for stage in have], _pick(rng, choices.expand_ratios))
                kernel_size = take([stage.kernel_sizes[j] for stage in have], _pick(rng, choices.kernel_sizes))
                blocks.append((ratio, kernel_size))
            stages.append(Stage(width, choices.stride, tuple(b[0] for b in blocks), tuple(b[1] for b in blocks)))
        return Arch(
            take([parent.resolution for parent in parents], fresh.resolution),
            take([parent.stem_width for parent in parents], fresh.stem_width),
            tuple(stages),
            tuple(take([p.deconv_widths[i] for p in parents], width) for i, width in enumerate(fresh.deconv_widths)),
        )


def _sample_stage(rng: np.random.Generator, stage: StageChoices) -> Stage:
    width, depth = _pick(rng, stage.widths), _pick(rng, stage.depths)
    ratios = tuple(_pick(rng, stage.expand_ratios) for _ in range(depth))
    return Stage(width, stage.stride, ratios, tuple(_pick(rng, stage.kernel_sizes) for _ in range(depth)))


def _pick(rng: np.random.Generator, choices: Sequence[int]) -> int:
    return choices[int(rng.integers(len(choices)))]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
