"""Architecture of one subnet as a value, LitePose's JSON format, and the list of its layers (no torch).

Source: LitePose (arXiv 2205.01271), section 3 and its published architecture files.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from supernet.errors import UserError
from supernet.io import files
from supernet.io.plain_values import check_keys, entries, integer, integers
from supernet.io.schema import check_number

STEM_CHANNELS = 32
"""Channels of the first convolution of every LitePose, before the stem width."""
HEAD_KERNEL_SIZE = 5
DECONV_KERNEL_SIZE = 4
STAGE_STRIDES = (2, 2, 2, 1)
BACKBONE_STRIDES = (2, 4, 8, 16, 16)
"""Total strides of the backbone's outputs s0 to s4: s0 comes from the stem, s1 to s4 from the stages."""
LARGEST_WIDTH, LARGEST_RESOLUTION, LARGEST_EXPAND_RATIO, LARGEST_KERNEL_SIZE = 65536, 4096, 1024, 255
MOST_BLOCKS = 1000
"""Limit on the blocks of one stage."""
IMAGE = "image"
"""Name of the first layer's input in :class:`Layer`."""


@dataclass(frozen=True)
class HeadPrediction:
    """Two separable convolutions, of the refined maps and of a backbone output, whose sum is a network output.

    Attributes:
        index: Position in ``final_refined`` and ``final_raw``: 0 gives ``low``, 1 gives ``high``.
        skip: Index of the backbone output that it reads.
        maps_per_keypoint: 2 for heatmaps and tags, 1 for heatmaps.
    """

    index: int
    skip: int
    maps_per_keypoint: int

    def num_maps(self, num_keypoints: int) -> int:
        """Return the number of output maps."""
        return self.maps_per_keypoint * num_keypoints


@dataclass(frozen=True)
class HeadLevel:
    """A level of the fusion deconvolution head; it doubles the size of the maps.

    Attributes:
        index: Position in ``deconv_refined`` and ``deconv_raw``.
        skip: Index of the backbone output that the raw deconvolution reads, which has the size of the refined maps.
        prediction: What follows the level, at its output size.
    """

    index: int
    skip: int
    prediction: HeadPrediction | None = None

    @property
    def input_stride(self) -> int:
        """Total stride of the maps that the level reads."""
        return BACKBONE_STRIDES[self.skip]


HEAD = (
    HeadLevel(0, skip=3),
    HeadLevel(1, skip=2, prediction=HeadPrediction(0, skip=1, maps_per_keypoint=2)),
    HeadLevel(2, skip=1, prediction=HeadPrediction(1, skip=0, maps_per_keypoint=1)),
)
"""The head's topology. The refined maps start as s4, then each level's output is the next level's refined input."""


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round ``value`` to a multiple of ``divisor``, at least ``divisor`` and never below 90 % of ``value``.

    Source: the channel rounding of the MobileNet family, which LitePose uses throughout.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True)
class Stage:
    """A sequence of inverted bottlenecks; entry ``i`` of both tuples belongs to block ``i``.

    Attributes:
        width: Output channels of every block.
        stride: Stride of the first block.
        expand_ratios: Hidden over input channels, per block.
        kernel_sizes: Depthwise kernel size, per block.
    """

    width: int
    stride: int
    expand_ratios: tuple[int, ...]
    kernel_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raise UserError for values that no network can have."""
        _positive("stage width", self.width, LARGEST_WIDTH)
        if self.stride not in (1, 2):
            raise UserError(f"stage stride is {self.stride!r}; it must be 1 or 2")
        if not self.expand_ratios or len(self.expand_ratios) != len(self.kernel_sizes):
            raise UserError(
                f"a stage has {len(self.expand_ratios)} expand ratios and {len(self.kernel_sizes)} kernel sizes; "
                "give one of each per block and at least one block"
            )
        for ratio, kernel_size in self.blocks():
            _positive("expand ratio", ratio, LARGEST_EXPAND_RATIO)
            _positive("kernel size", kernel_size, LARGEST_KERNEL_SIZE)
            if kernel_size % 2 == 0:
                raise UserError(f"kernel size is {kernel_size}; it must be odd")

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.expand_ratios)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield (expand ratio, kernel size) of each block."""
        return zip(self.expand_ratios, self.kernel_sizes, strict=True)


@dataclass(frozen=True)
class Arch:
    """One LitePose: input resolution (short side, px), stem width, four stages, three deconvolution widths."""

    resolution: int
    stem_width: int
    stages: tuple[Stage, ...]
    deconv_widths: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raise UserError for values that no LitePose can have."""
        _positive("resolution", self.resolution, LARGEST_RESOLUTION)
        _positive("stem width", self.stem_width, LARGEST_WIDTH)
        for width in self.deconv_widths:
            _positive("deconv width", width, LARGEST_WIDTH)
        if (len(self.stages), len(self.deconv_widths)) != (len(STAGE_STRIDES), len(HEAD)):
            raise UserError(
                f"an arch has {len(self.stages)} stages and {len(self.deconv_widths)} deconv widths; "
                f"a LitePose has {len(STAGE_STRIDES)} and {len(HEAD)}"
            )
        strides = [stage.stride for stage in self.stages]
        if tuple(strides) != STAGE_STRIDES:
            raise UserError(f"stage strides are {strides}; a LitePose has {list(STAGE_STRIDES)}")
        if self.resolution % 16:
            raise UserError(f"resolution is {self.resolution}; it must be a multiple of 16, the network's total stride")

    @property
    def backbone_widths(self) -> tuple[int, ...]:
        """Channels of the backbone's outputs s0 to s4."""
        return (self.stem_width, *(stage.width for stage in self.stages))

    @property
    def residual_stages(self) -> tuple[bool, ...]:
        """Whether the first block of each stage adds its input to its output; all later blocks do."""
        return tuple(
            stage.stride == 1 and stage.width == width
            for stage, width in zip(self.stages, self.backbone_widths[:-1], strict=True)
        )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read the structure of LitePose's JSON files; the key ``meta`` may hold extra information.

        Raises:
            UserError: An unknown or missing key, or a value of the wrong type; the message names its place.
        """
        keys = {"img_size", "input_channel", "deconv_setting", "backbone_setting"}
        check_keys("the arch", value, keys, {"meta"})
        stages = []
        for i, stage in enumerate(entries("backbone_setting", value["backbone_setting"])):
            place = f"backbone_setting[{i}]"
            check_keys(place, stage, {"num_blocks", "stride", "channel", "block_setting"})
            blocks = [
                integers(f"{place}.block_setting[{j}]", block)
                for j, block in enumerate(entries(f"{place}.block_setting", stage["block_setting"]))
            ]
            if any(len(block) != 2 for block in blocks):
                raise UserError(f"every entry of {place}.block_setting must be [expand ratio, kernel size]")
            width, stride, depth = (
                integer(f"{place}.{key}", stage[key]) for key in ("channel", "stride", "num_blocks")
            )
            if len(blocks) != depth:
                raise UserError(f"{place}.num_blocks is {depth} but block_setting has {len(blocks)} entries")
            stages.append(Stage(width, stride, tuple(b[0] for b in blocks), tuple(b[1] for b in blocks)))
        resolution, stem = (integer(key, value[key]) for key in ("img_size", "input_channel"))
        return cls(resolution, stem, tuple(stages), integers("deconv_setting", value["deconv_setting"]))

    def to_dict(self) -> dict[str, Any]:
        """Return the structure of LitePose's JSON files."""
        return {
            "img_size": self.resolution,
            "input_channel": self.stem_width,
            "deconv_setting": list(self.deconv_widths),
            "backbone_setting": [
                {
                    "num_blocks": stage.depth,
                    "stride": stage.stride,
                    "channel": stage.width,
                    "block_setting": [list(block) for block in stage.blocks()],
                }
                for stage in self.stages
            ],
        }

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an arch file (LitePose JSON); a UserError names the file and the wrong field."""
        value = files.read_json(path, "arch file")
        try:
            arch = cls.from_dict(value)
        except UserError as error:
            raise UserError(f"arch file {path}: {error}") from error
        meta = value.get("meta")
        recorded = meta.get("digest") if isinstance(meta, Mapping) else None
        if recorded not in (None, arch.digest()):
            raise UserError(
                f"arch file {path} was changed after it was written: meta.digest is {recorded!r}, the arch's digest is "
                f"{arch.digest()}; restore the file, or remove meta if the change is intended"
            )
        return arch

    def save(self, path: str | Path, meta: Mapping[str, Any] | None = None) -> None:
        """Write the arch as LitePose JSON, with ``meta`` under that key if given."""
        files.write_json(path, self.to_dict() | ({"meta": dict(meta)} if meta else {}))

    def digest(self) -> str:
        """Return 12 hexadecimal digits that identify the arch."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]

    def describe(self) -> str:
        """Return one line: resolution, then depth x width of each stage, then deconvolution widths."""
        stages = " ".join(f"{stage.depth}x{stage.width}" for stage in self.stages)
        deconv = "/".join(map(str, self.deconv_widths))
        return f"{self.resolution} px, stem {self.stem_width}, stages {stages}, deconv {deconv}"


@dataclass(frozen=True)
class Layer:
    """A convolution with its batch norm and activation, for an input of ``resolution`` x ``resolution`` pixels.

    Attributes:
        name: State-dict name of the weight without ``.weight``.
        input_size: Side of the square input maps, px.
        output_size: Side of the square output maps, px.
        norm_activation: Batch-norm elements and activation elements per output element (0 or 1 each). The two
            transposed convolutions of a level are summed first; their batch norm is counted with the refined one.
        reads: Name of the layer whose output is this layer's input, or ``IMAGE``.
        adds: Name of the layer whose output is added to this layer's (the residual, or the other branch of the head);
            this layer's name then means the sum. None if nothing is added.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    groups: int
    transposed: bool
    input_size: int
    output_size: int
    norm_activation: tuple[int, int]
    reads: str
    adds: str | None = None


def layers(arch: Arch, num_keypoints: int) -> list[Layer]:
    """Return every convolution of ``LitePose(arch, num_keypoints)`` in forward order, for one square input."""
    walk: list[Layer] = []

    def conv(
        name: str,
        reads: str,
        inputs: int,
        outputs: int,
        kernel: int,
        size: int,
        stride: int = 1,
        groups: int = 1,
        after: tuple[int, int] = (1, 1),
        adds: str | None = None,
    ) -> str:
        out = (size - 1) // stride + 1
        walk.append(Layer(name, inputs, outputs, kernel, stride, groups, False, size, out, after, reads, adds))
        return name

    x = conv("first.0.0", IMAGE, 3, STEM_CHANNELS, 3, arch.resolution, 2)
    size = walk[-1].output_size
    x = conv("first.1.0", x, STEM_CHANNELS, STEM_CHANNELS, 3, size, groups=STEM_CHANNELS)
    x = conv("first.2", x, STEM_CHANNELS, arch.stem_width, 1, size, after=(1, 0))
    width = arch.stem_width
    backbone = [(x, width)]  # name and width of s0 to s4
    for i, stage in enumerate(arch.stages):
        for j, (ratio, kernel_size) in enumerate(stage.blocks()):
            prefix, hidden, stride = f"stage.{i}.{j}", make_divisible(width * ratio), stage.stride if j == 0 else 1
            residual = x if stride == 1 and width == stage.width else None
            x = conv(f"{prefix}.inv.0", x, width, hidden, 1, size)
            x = conv(f"{prefix}.depth_conv.0", x, hidden, hidden, kernel_size, size, stride, hidden)
            size, width = walk[-1].output_size, stage.width
            x = conv(f"{prefix}.point_conv.0", x, hidden, width, 1, size, after=(1, 0), adds=residual)
        backbone.append((x, width))
    for level, outputs in zip(HEAD, arch.deconv_widths, strict=True):
        added = None
        for branch, (reads, inputs), after in (("refined", (x, width), (1, 1)), ("raw", backbone[level.skip], (0, 0))):
            name, sizes = f"deconv_{branch}.{level.index}", (DECONV_KERNEL_SIZE, 2, 1, True, size, 2 * size)
            walk.append(Layer(name, inputs, outputs, *sizes, after, reads, added))
            added = name
        x, width, size = walk[-1].name, outputs, 2 * size
        if level.prediction is not None:
            num_maps, added = level.prediction.num_maps(num_keypoints), None
            for branch, (reads, inputs) in (("refined", (x, width)), ("raw", backbone[level.prediction.skip])):
                prefix = f"final_{branch}.{level.prediction.index}.conv"
                reads = conv(f"{prefix}.0", reads, inputs, inputs, HEAD_KERNEL_SIZE, size, groups=inputs)
                added = conv(f"{prefix}.3", reads, inputs, num_maps, 1, size, after=(0, 0), adds=added)
    return walk


def _positive(what: str, value: int, most: int) -> None:
    check_number(what, value, least=1, most=most, whole=True)
