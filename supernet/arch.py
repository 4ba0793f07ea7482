"""Architecture of one subnet as a value, LitePose's JSON format, and the one walk over its layers (no torch).

Source: LitePose (arXiv 2205.01271), section 3 and its published architecture files.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from supernet.errors import UserError
from supernet.io import files

STEM_CHANNELS = 32
"""Channels of the first convolution of every LitePose, before the stem width."""
HEAD_KERNEL_SIZE = 5
DECONV_KERNEL_SIZE = 4
NUM_LEVELS = 3
LARGEST_WIDTH, LARGEST_RESOLUTION, LARGEST_EXPAND_RATIO, LARGEST_KERNEL_SIZE = 65536, 4096, 1024, 255
MOST_BLOCKS = 1000
"""Of a stage."""
IMAGE = "image"
"""What the first layer reads, in :class:`Layer`."""


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round ``value`` to a multiple of ``divisor``, at least ``divisor`` and never below 90 % of ``value``.

    Source: the channel rounding of the MobileNet family, which LitePose uses throughout.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True)
class Stage:
    """A run of inverted bottlenecks; entry ``i`` of both tuples belongs to block ``i``.

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
        """Raise UserError for values no network can have."""
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
        """Raise UserError for values no LitePose can have."""
        _positive("resolution", self.resolution, LARGEST_RESOLUTION)
        _positive("stem width", self.stem_width, LARGEST_WIDTH)
        for width in self.deconv_widths:
            _positive("deconv width", width, LARGEST_WIDTH)
        if len(self.stages) != 4 or len(self.deconv_widths) != NUM_LEVELS:
            raise UserError(
                f"an arch has {len(self.stages)} stages and {len(self.deconv_widths)} deconv widths; "
                f"a LitePose has 4 and {NUM_LEVELS}"
            )
        if tuple(stage.stride for stage in self.stages) != (2, 2, 2, 1):
            raise UserError(f"stage strides are {[stage.stride for stage in self.stages]}; a LitePose has [2, 2, 2, 1]")
        if self.resolution % 16:
            raise UserError(f"resolution is {self.resolution}; it must be a multiple of 16, the network's total stride")

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read LitePose's own JSON structure; extra information may stand under ``meta``.

        Raises:
            UserError: An unknown or missing key, or a value of the wrong type, named with its place.
        """
        keys = {"img_size", "input_channel", "deconv_setting", "backbone_setting"}
        _check_keys("the arch", value, keys, {"meta"})
        stages = []
        for i, stage in enumerate(_list("backbone_setting", value["backbone_setting"])):
            place = f"backbone_setting[{i}]"
            _check_keys(place, stage, {"num_blocks", "stride", "channel", "block_setting"})
            blocks = [
                tuple(_integer(f"{place}.block_setting[{j}]", number) for number in _list(f"{place} block {j}", block))
                for j, block in enumerate(_list(f"{place}.block_setting", stage["block_setting"]))
            ]
            if any(len(block) != 2 for block in blocks):
                raise UserError(f"every entry of {place}.block_setting must be [expand ratio, kernel size]")
            if len(blocks) != _integer(f"{place}.num_blocks", stage["num_blocks"]):
                raise UserError(f"{place}.num_blocks is {stage['num_blocks']} but {len(blocks)} blocks are listed")
            width, stride = (_integer(f"{place}.{key}", stage[key]) for key in ("channel", "stride"))
            stages.append(Stage(width, stride, tuple(b[0] for b in blocks), tuple(b[1] for b in blocks)))
        deconv = tuple(_integer("deconv_setting", width) for width in _list("deconv_setting", value["deconv_setting"]))
        resolution, stem = (_integer(key, value[key]) for key in ("img_size", "input_channel"))
        return cls(resolution, stem, tuple(stages), deconv)

    def to_dict(self) -> dict[str, Any]:
        """Return LitePose's own JSON structure."""
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
        """Read an arch file (LitePose JSON); UserError names the file and the field at fault."""
        value = files.read_json(path, "arch file")
        try:
            found = cls.from_dict(value)
        except UserError as error:
            raise UserError(f"arch file {path}: {error}") from error
        meta = value.get("meta")
        told = meta.get("digest") if isinstance(meta, Mapping) else None
        if told not in (None, found.digest()):
            raise UserError(
                f"arch file {path} is not as it was written: its digest is {found.digest()}, its meta.digest {told!r}; "
                "restore it, or take meta out if you changed it on purpose"
            )
        return found

    def save(self, path: str | Path, meta: Mapping[str, Any] | None = None) -> None:
        """Write the arch as LitePose JSON, with ``meta`` under that key if given."""
        files.write_json(path, self.to_dict() | ({"meta": dict(meta)} if meta else {}))

    def digest(self) -> str:
        """Return 12 hexadecimal digits that identify the arch."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]

    def describe(self) -> str:
        """Return one line for people: resolution, then depth x width of each stage, then deconvolution widths."""
        stages = " ".join(f"{stage.depth}x{stage.width}" for stage in self.stages)
        deconv = "/".join(map(str, self.deconv_widths))
        return f"{self.resolution} px, stem {self.stem_width}, stages {stages}, deconv {deconv}"


@dataclass(frozen=True)
class Layer:
    """A convolution and what follows it, for an input of ``resolution`` x ``resolution`` pixels.

    Attributes:
        name: State-dict name of the weight without ``.weight``.
        input_size, output_size: Side of the square maps, px.
        norm_activation: Batch-norm elements and activation elements per output element (0 or 1 each). The two
            transposed convolutions of a level are summed first; their batch norm is counted with the refined one.
        reads: Name of the layer whose output this one takes, or ``IMAGE``.
        adds: Name of the layer whose output is added to this one's (the residual, or the other branch of the head);
            the sum then goes by this layer's name. None where nothing is added.
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
    """Walk every convolution of ``LitePose(arch, num_keypoints)`` in forward order, for one square input."""
    found: list[Layer] = []

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
        found.append(Layer(name, inputs, outputs, kernel, stride, groups, False, size, out, after, reads, adds))
        return name

    x = conv("first.0.0", IMAGE, 3, STEM_CHANNELS, 3, arch.resolution, 2)
    size = found[-1].output_size
    x = conv("first.1.0", x, STEM_CHANNELS, STEM_CHANNELS, 3, size, groups=STEM_CHANNELS)
    x = conv("first.2", x, STEM_CHANNELS, arch.stem_width, 1, size, after=(1, 0))
    width = arch.stem_width
    skips = [(x, width)]
    for i, stage in enumerate(arch.stages):
        for j, (ratio, kernel_size) in enumerate(stage.blocks()):
            prefix, hidden, stride = f"stage.{i}.{j}", make_divisible(width * ratio), stage.stride if j == 0 else 1
            residual = x if stride == 1 and width == stage.width else None
            x = conv(f"{prefix}.inv.0", x, width, hidden, 1, size)
            x = conv(f"{prefix}.depth_conv.0", x, hidden, hidden, kernel_size, size, stride, hidden)
            size, width = found[-1].output_size, stage.width
            x = conv(f"{prefix}.point_conv.0", x, hidden, width, 1, size, after=(1, 0), adds=residual)
        skips.append((x, width))
    for level, outputs in enumerate(arch.deconv_widths):
        added = None
        for name, (reads, inputs), after in (("refined", (x, width), (1, 1)), ("raw", skips[3 - level], (0, 0))):
            name = f"deconv_{name}.{level}"
            sizes = (DECONV_KERNEL_SIZE, 2, 1, True, size, 2 * size)
            found.append(Layer(name, inputs, outputs, *sizes, after, reads, added))
            added = name
        x, width, size = found[-1].name, outputs, 2 * size
        if level > 0:
            predicted, added = num_keypoints * (2 if level == 1 else 1), None
            for name, (reads, inputs) in (("refined", (x, width)), ("raw", skips[2 - level])):
                prefix = f"final_{name}.{level - 1}.conv"
                reads = conv(f"{prefix}.0", reads, inputs, inputs, HEAD_KERNEL_SIZE, size, groups=inputs)
                added = conv(f"{prefix}.3", reads, inputs, predicted, 1, size, after=(0, 0), adds=added)
    return found


def _positive(what: str, value: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
        raise UserError(f"{what} is {value!r}; it must be a whole number from 1 to {most}")


def _integer(place: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{place} is {value!r}; it must be a whole number")
    return value


def _list(place: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise UserError(f"{place} is {type(value).__name__}; it must be a list")
    if len(value) > MOST_BLOCKS:
        raise UserError(f"{place} has {len(value)} entries; a LitePose has at most {MOST_BLOCKS}")
    return value


def _check_keys(place: str, value: Any, required: set[str], optional: frozenset[str] | set[str] = frozenset()) -> None:
    if not isinstance(value, Mapping):
        raise UserError(f"{place} is {type(value).__name__}; it must be an object with the keys {sorted(required)}")
    missing, unknown = required - set(value), set(value) - required - optional
    if missing or unknown:
        parts = [f"lacks {sorted(missing)}"] * bool(missing) + [
            f"has the unknown keys {sorted(map(str, unknown))}"
        ] * bool(unknown)
        raise UserError(f"{place} {' and '.join(parts)}; allowed are {sorted(required | optional)}")
