"""Latency tables: what each block of a space takes on one device, and the predicted latency of an arch (no torch).

The prediction is ``fixed_ms`` and, for each block, ``factor * (p50_ms - call_ms) + border_ms * border elements / 1e6``,
with one factor for the blocks of the backbone and one for those of the head. A block alone pays for the call of its
library (``call_ms``, that of a graph that does nothing), for reordering what goes in and out, and for a cold cache; the
factors, the fixed part and that at the borders are fitted on whole networks that are measured along with the blocks.

Source: the idea of a table per block is FBNet's and Once-for-All's (arXiv 1812.03443, 1908.09791); these add up the
bare entries.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from supernet.arch import Arch
from supernet.costs.latency_blocks import (
    Block,
    Bottleneck,
    Stem,
    blocks_of,
    blocks_of_space,
    key_of,
    num_border_elements,
)
from supernet.costs.latency_file import FORMAT, UNIT, VERSION, Entry, block_row, check_form, figures, read_blocks
from supernet.costs.latency_lookup import Floats, LatencyGrid
from supernet.errors import UserError
from supernet.io import files
from supernet.io.schema import check_least, from_mapping
from supernet.space import SearchSpace

FARTHEST = 2.0
"""Factor between predicted and measured latency (median of the table's networks) past which a table makes no sense."""


@dataclass(frozen=True)
class MeasurementSettings:
    """What latencies were measured on and with.

    Attributes:
        runtime: "onnxruntime", "openvino" or "torch".
        runtime_version: Of that library.
        device: Name of the processor or GPU; with the execution provider, where that is not the CPU's.
        system: Operating system.
        threads: Of the CPU.
        precision: What is computed in, "f32", "bf16" or "f16".
        batch: Images a run; latencies are those of the whole batch.
    """

    runtime: str
    runtime_version: str
    device: str
    system: str
    threads: int
    precision: str
    batch: int

    def __post_init__(self) -> None:
        """Raise UserError for numbers that nothing can be measured with."""
        check_least(self, {"threads": 1, "batch": 1}, "settings.")

    def describe(self) -> str:
        """Return one line for people."""
        threads, batch = f"{self.threads} thread{'s' * (self.threads > 1)}", f"batch {self.batch}"
        return f"{self.runtime} {self.runtime_version} {self.precision} on {self.device}, {threads}, {batch}"


def check_settings(table: MeasurementSettings, here: MeasurementSettings) -> None:
    """Make sure that what is measured here can be compared with a table.

    Raises:
        UserError: A setting differs; it is named with both values.
    """
    for name, value in asdict(here).items():
        if name != "system" and getattr(table, name) != value:
            raise UserError(
                f"settings.{name} of the latency table is {getattr(table, name)!r}, here it is {value!r}; "
                "use it where and as it was measured, or build one here"
            )


@dataclass(frozen=True)
class Overhead:
    """What turns sums over blocks into the latency of a network; fitted, see the head of this module."""

    call_ms: float
    fixed_ms: float
    backbone_factor: float
    head_factor: float
    border_ms: float = 0.0

    def __post_init__(self) -> None:
        """Raise UserError for numbers that no fit can give."""
        signed = (("fixed_ms", -math.inf), ("border_ms", -math.inf))
        for name, least in (("call_ms", 0), ("backbone_factor", 0), ("head_factor", 0), *signed):
            value = getattr(self, name)
            if not least < value < math.inf:
                raise UserError(f"overhead.{name} is {value}; it must be a number above {least}, so measure again")


@dataclass(frozen=True)
class MeasuredNetwork:
    """A whole network that the overhead was fitted on."""

    arch: Arch
    entry: Entry


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Latencies of every block of a space, for ``num_keypoints``, and what makes them latencies of networks."""

    settings: MeasurementSettings
    space: SearchSpace
    num_keypoints: int
    overhead: Overhead
    networks: tuple[MeasuredNetwork, ...]
    entries: Mapping[Block, Entry]

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a table.

        Raises:
            UserError: The file is missing, or anything in it is not as it must be; the field is named.
        """
        value = files.read_json(path, "latency table")
        try:
            return cls.from_dict(value)
        except UserError as error:
            raise UserError(f"latency table {path}: {error}") from error

    @classmethod
    def from_dict(cls, value: Any) -> Self:
        """Read what :meth:`to_dict` returns; UserError names the first field at fault."""
        check_form(value)
        space = SearchSpace.from_dict(value["space"])
        if space.digest() != value["space_digest"]:
            raise UserError(
                f"space_digest is {value['space_digest']!r} but the space listed has {space.digest()}; measure again"
            )
        num_keypoints = value["num_keypoints"]
        entries = read_blocks(value["blocks"], blocks_of_space(space, num_keypoints))
        networks = []
        for i, row in enumerate(value["networks"]):
            try:
                arch = Arch.from_dict(row["arch"] if isinstance(row, dict) and "arch" in row else row)
                space.check(arch)
            except UserError as error:
                raise UserError(f"networks[{i}].arch: {error}") from error
            networks.append(MeasuredNetwork(arch, figures(f"networks[{i}]", row)))
        settings = from_mapping(MeasurementSettings, value["settings"], "settings")
        overhead = from_mapping(Overhead, value["overhead"], "overhead")
        table = cls(settings, space, num_keypoints, overhead, tuple(networks), entries)
        table.check_overhead()
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they stand in the file."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "unit": UNIT,
            "settings": asdict(self.settings),
            "num_keypoints": self.num_keypoints,
            "space_digest": self.space.digest(),
            "space": self.space.to_dict(),
            "overhead": asdict(self.overhead),
            "networks": [{"arch": each.arch.to_dict(), **asdict(each.entry)} for each in self.networks],
            "blocks": [block_row(block, entry) for block, entry in self.entries.items()],
        }

    def check(self, space: SearchSpace, num_keypoints: int) -> None:
        """Make sure that every arch of ``space`` can be looked up; a table may cover more resolutions.

        Raises:
            UserError: The table is of another space or number of keypoints, or lacks a resolution.
        """
        if num_keypoints != self.num_keypoints:
            raise UserError(
                f"num_keypoints of the latency table is {self.num_keypoints}, that of the supernet {num_keypoints}; "
                "build a table for this supernet"
            )
        if replace(self.space, resolutions=space.resolutions).digest() != space.digest():
            raise UserError(
                f"space_digest of the latency table is {self.space.digest()} ({self.space.name}), that of the space "
                f"searched {space.digest()} ({space.name}); build a table for this space"
            )
        if missing := set(space.resolutions) - set(self.space.resolutions):
            raise UserError(
                f"the latency table lacks the resolutions {sorted(missing)} of space {space.name}; build it with them"
            )

    def latency_ms(self, space: SearchSpace, genes: npt.NDArray[Any]) -> Floats:
        """Predict the latency of many archs.

        Args:
            space: That the genes are of.
            genes: (N, G) as :meth:`supernet.space.SearchSpace.encode` returns them.

        Returns:
            Milliseconds of one run of each, (N,).

        Raises:
            UserError: See :meth:`check`.
        """
        backbone, head = self._grid(space).sums(np.asarray(genes))
        return self.overhead.fixed_ms + backbone + head

    def predict_ms(self, arch: Arch) -> float:
        """Predict the latency of one arch, inside the space or not.

        Raises:
            UserError: It has a block that was not measured.
        """
        return self.overhead.fixed_ms + sum(self.share_ms(block) for block in blocks_of(arch, self.num_keypoints))

    def share_ms(self, block: Block) -> float:
        """Return what a block adds to the latency of a network.

        Raises:
            UserError: The block was not measured.
        """
        if block not in self.entries:
            raise UserError(f"the latency table lacks the block {key_of(block)}; build one for this arch's space")
        border = self.overhead.border_ms * num_border_elements(block) * self.settings.batch / 1e6
        return self._factor(block) * max(0.0, self.entries[block].p50_ms - self.overhead.call_ms) + border

    def check_overhead(self) -> None:
        """Raise UserError if blocks and networks of this table contradict each other, as after a mistake of units."""
        ratios = [self.predict_ms(each.arch) / each.entry.p50_ms for each in self.networks]
        median = float(np.median(ratios)) if ratios else 1.0
        if not 1 / FARTHEST < median < FARTHEST:
            raise UserError(
                f"blocks and overhead predict {median:.3g} times the p50_ms of its networks; both must be in ms and "
                "measured alike, so measure again"
            )

    def describe(self) -> str:
        """Return one line for people."""
        resolutions = "/".join(map(str, self.space.resolutions))
        return (
            f"{self.settings.describe()}: {len(self.entries)} blocks of space {self.space.name} at {resolutions} px, "
            f"{self.num_keypoints} keypoints"
        )

    def _factor(self, block: Block) -> float:
        is_backbone = isinstance(block, Stem | Bottleneck)
        return self.overhead.backbone_factor if is_backbone else self.overhead.head_factor

    @functools.cached_property
    def _grids(self) -> dict[SearchSpace, LatencyGrid]:
        return {}

    def _grid(self, space: SearchSpace) -> LatencyGrid:
        if space not in self._grids:
            self.check(space, self.num_keypoints)
            self._grids[space] = LatencyGrid(space, self.num_keypoints, self.share_ms)
        return self._grids[space]
