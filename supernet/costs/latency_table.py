"""Latency tables: the latency of every block of a space on one device, and predictions for archs (no torch).

The prediction is ``fixed_ms`` plus ``factor * (p50_ms - call_ms) + border_ms * border elements / 1e6`` for each block,
with one factor for the blocks of the backbone and one for those of the head. A block that runs alone includes the call
of its library (``call_ms``, that of an almost empty graph), the reordering of its inputs and outputs, and a cold cache.
The factors, the fixed part and the part at the borders correct for this; they are fitted on whole networks that are
measured along with the blocks.

Source: tables of blocks come from FBNet and Once-for-All (arXiv 1812.03443, 1908.09791), which add up the entries
without a correction.
"""

import functools
import json
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
from supernet.io.schema import check_numbers, from_mapping
from supernet.space import SearchSpace

FARTHEST = 2.0
"""Ratio of predicted to measured latency (median of the table's networks) beyond which a table is rejected."""


@dataclass(frozen=True)
class MeasurementSettings:
    """The device and settings of a measurement.

    Attributes:
        runtime: "onnxruntime", "openvino", "ncnn", "mnn", "litert", "executorch" or "torch".
        runtime_version: Version of that library.
        device: Name of the processor or GPU, with the execution provider if it is not that of the CPU.
        system: Operating system.
        threads: CPU threads.
        precision: Number format of the computation, "f32", "bf16" or "f16".
        batch: Images per run; latencies are those of the whole batch.
    """

    runtime: str
    runtime_version: str
    device: str
    system: str
    threads: int
    precision: str
    batch: int

    def __post_init__(self) -> None:
        """Raise UserError for impossible values."""
        check_numbers(self, "threads", "batch", least=1, place="settings.")

    def describe(self) -> str:
        """Return one line."""
        threads, batch = f"{self.threads} thread{'s' * (self.threads > 1)}", f"batch {self.batch}"
        return f"{self.runtime} {self.runtime_version} {self.precision} on {self.device}, {threads}, {batch}"


def check_settings(table: MeasurementSettings, here: MeasurementSettings) -> None:
    """Check that measurements on this machine are comparable with a table.

    Raises:
        UserError: A setting differs; the message names it and both values.
    """
    for name, value in asdict(here).items():
        if name != "system" and getattr(table, name) != value:
            raise UserError(
                f"settings.{name} of the latency table is {getattr(table, name)!r}, here it is {value!r}; "
                "use the table on the device and with the settings that it was measured with, or build a new one"
            )


@dataclass(frozen=True)
class Overhead:
    """Parameters that turn sums over blocks into the latency of a network; see the module's docstring."""

    call_ms: float
    fixed_ms: float
    backbone_factor: float
    head_factor: float
    border_ms: float = 0.0

    def __post_init__(self) -> None:
        """Raise UserError for numbers that no fit can produce."""
        positive = ("call_ms", "backbone_factor", "head_factor")
        check_numbers(self, *positive, above=0, place="overhead.", remedy="measure again")
        check_numbers(self, "fixed_ms", "border_ms", place="overhead.", remedy="measure again")


@dataclass(frozen=True)
class MeasuredNetwork:
    """A whole network that the overhead was fitted on."""

    arch: Arch
    entry: Entry


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Latencies of every block of a space, for ``num_keypoints``, and the fitted overhead of networks."""

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
            UserError: The file is missing or malformed; the message names the field.
        """
        if Path(path).suffix in (".jsonl", ".zip"):
            raise UserError(
                f"latency table {path} is a file of measurements by its name; make a table of them with litepose lut "
                f"merge {path} --output table.json"
            )
        value = files.read_json(path, "latency table")
        try:
            return cls.from_dict(value)
        except UserError as error:
            raise UserError(f"latency table {path}: {error}") from error

    @classmethod
    def from_dict(cls, value: Any) -> Self:
        """Read what :meth:`to_dict` returns; a UserError names the first wrong field."""
        check_form(value)
        space = SearchSpace.from_dict(value["space"])
        if space.digest() != value["space_digest"]:
            raise UserError(
                f"space_digest is {value['space_digest']!r}, but the space has {space.digest()}; measure again"
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
        """Return the plain values of the file."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "unit": UNIT,
            "settings": asdict(self.settings),
            "num_keypoints": self.num_keypoints,
            "space_digest": self.space.digest(),
            "space": self.space.to_dict(),
            "overhead": asdict(self.overhead),
            "networks": [{"arch": network.arch.to_dict(), **asdict(network.entry)} for network in self.networks],
            "blocks": [block_row(block, entry) for block, entry in self.entries.items()],
        }

    def save(self, path: str | Path) -> None:
        """Write the table as JSON with one line per network and per block, all or nothing."""
        value = self.to_dict()
        lists = {name: value.pop(name) for name in ("networks", "blocks")}
        text = json.dumps(value, indent=2, allow_nan=False).removesuffix("\n}")
        for name, rows in lists.items():
            lines = ",\n".join(f"    {json.dumps(row, allow_nan=False)}" for row in rows)
            text += f',\n  "{name}": [\n{lines}\n  ]'
        files.write_text(path, text + "\n}\n")

    def check(self, space: SearchSpace, num_keypoints: int) -> None:
        """Check that every arch of ``space`` can be looked up; a table may cover more resolutions.

        Raises:
            UserError: The table is for another space or number of keypoints, or lacks a resolution.
        """
        if num_keypoints != self.num_keypoints:
            raise UserError(
                f"num_keypoints of the latency table is {self.num_keypoints}, here it is {num_keypoints}; "
                "use a table for the same keypoints, or build one"
            )
        if replace(self.space, resolutions=space.resolutions).digest() != space.digest():
            raise UserError(
                f"space_digest of the latency table is {self.space.digest()} ({self.space.name}), here it is "
                f"{space.digest()} ({space.name}); use a table for the same space, or build one"
            )
        if missing := set(space.resolutions) - set(self.space.resolutions):
            raise UserError(
                f"the latency table lacks the resolutions {sorted(missing)} of space {space.name}; build it with them"
            )

    def latency_ms(self, space: SearchSpace, genes: npt.NDArray[Any]) -> Floats:
        """Predict the latency of many archs.

        Args:
            space: The space of the genes.
            genes: (N, G) as :meth:`supernet.space.SearchSpace.encode` returns them.

        Returns:
            Milliseconds of one run of each arch, (N,).

        Raises:
            UserError: See :meth:`check`.
        """
        backbone, head = self._grid(space).sums(np.asarray(genes))
        return self.overhead.fixed_ms + backbone + head

    def predict_ms(self, arch: Arch) -> float:
        """Predict the latency of one arch, which may lie outside the space.

        Raises:
            UserError: The arch has a block that was not measured.
        """
        return self.overhead.fixed_ms + sum(self.share_ms(block) for block in blocks_of(arch, self.num_keypoints))

    def share_ms(self, block: Block) -> float:
        """Return the contribution of a block to the latency of a network, ms.

        Raises:
            UserError: The block was not measured.
        """
        if block not in self.entries:
            raise UserError(f"the latency table lacks the block {key_of(block)}; build one for this arch's space")
        border = self.overhead.border_ms * num_border_elements(block) * self.settings.batch / 1e6
        return self._factor(block) * max(0.0, self.entries[block].p50_ms - self.overhead.call_ms) + border

    def check_overhead(self) -> None:
        """Raise UserError if the blocks and networks of this table contradict each other, as after a wrong unit."""
        ratios = [self.predict_ms(network.arch) / network.entry.p50_ms for network in self.networks]
        median = float(np.median(ratios)) if ratios else 1.0
        if not 1 / FARTHEST < median < FARTHEST:
            raise UserError(
                f"blocks and overhead predict {median:.3g} times the p50_ms of its networks; both must be in ms and "
                "measured in the same way, so measure again"
            )

    def describe(self) -> str:
        """Return one line."""
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
