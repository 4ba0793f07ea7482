"""Blocks: the parts of a network whose latencies are measured, listed for an arch or a whole space (no torch).

A block is a part of LitePose between two choices of a search space: the stem with the normalisation of the images
before it, one inverted bottleneck, one level of the fusion deconvolution head (both transposed convolutions, their sum
and its activation), or one prediction (both separable convolutions and their sum). Blocks of equal shape are equal
wherever they occur in a network, so each is measured once.
"""

import itertools
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

from supernet.arch import BACKBONE_STRIDES, HEAD, Arch
from supernet.errors import UserError
from supernet.space import SearchSpace

MOST_BLOCKS = 1_000_000
"""Limit on the blocks of a space; the full space has a few thousand."""


@dataclass(frozen=True, order=True)
class Stem:
    """Maps an image (input_size, input_size, 3) uint8 to ``width`` maps of half its side."""

    width: int
    input_size: int


@dataclass(frozen=True, order=True)
class Bottleneck:
    """An inverted bottleneck on maps of ``input_size`` x ``input_size`` px, with a residual if the shapes allow it."""

    in_width: int
    width: int
    stride: int
    expand_ratio: int
    kernel_size: int
    input_size: int


@dataclass(frozen=True, order=True)
class Deconv:
    """Maps ``in_width`` refined and ``skip_width`` backbone maps to ``width`` refined maps of twice the side."""

    in_width: int
    skip_width: int
    width: int
    input_size: int


@dataclass(frozen=True, order=True)
class PredictionHead:
    """Maps ``in_width`` refined and ``skip_width`` backbone maps to ``outputs`` maps of the same side."""

    in_width: int
    skip_width: int
    outputs: int
    input_size: int


Block = Stem | Bottleneck | Deconv | PredictionHead
KINDS: dict[str, type[Stem] | type[Bottleneck] | type[Deconv] | type[PredictionHead]] = {
    "stem": Stem,
    "bottleneck": Bottleneck,
    "deconv": Deconv,
    "prediction": PredictionHead,
}
"""Every kind of block by its name in files."""
_NAMES = {kind: name for name, kind in KINDS.items()}
SHAPES = {name: tuple(field.name for field in fields(kind)) for name, kind in KINDS.items()}
"""Names of the fields of each kind of block, in order."""


def kind_of(block: Block) -> str:
    """Return the name of a block's kind in ``KINDS``."""
    return _NAMES[type(block)]


def key_of(block: Block) -> str:
    """Return a block's kind and shape as text, such as "bottleneck 16 32 2 6 5 128"."""
    return " ".join(map(str, (kind_of(block), *astuple(block))))


def num_border_elements(block: Block) -> int:
    """Return the number of input and output elements of a block for one image, without the image itself."""
    area = block.input_size**2
    if isinstance(block, Stem):
        return block.width * area // 4
    if isinstance(block, Bottleneck):
        return block.in_width * area + block.width * area // block.stride**2
    inputs = (block.in_width + block.skip_width) * area
    return inputs + (4 * block.width if isinstance(block, Deconv) else block.outputs) * area


def blocks_of(arch: Arch, num_keypoints: int) -> list[Block]:
    """Return the blocks of ``LitePose(arch, num_keypoints)`` in forward order, for one square image."""
    blocks: list[Block] = [Stem(arch.stem_width, arch.resolution)]
    widths, size = [arch.stem_width], arch.resolution // 2
    for stage in arch.stages:
        width = widths[-1]
        for j, (expand_ratio, kernel_size) in enumerate(stage.blocks()):
            stride = stage.stride if j == 0 else 1
            blocks.append(Bottleneck(width, stage.width, stride, expand_ratio, kernel_size, size))
            width, size = stage.width, size // stride
        widths.append(width)
    refined = widths[-1]
    for level, width in zip(HEAD, arch.deconv_widths, strict=True):
        size = arch.resolution // level.input_stride
        blocks.append(Deconv(refined, widths[level.skip], width, size))
        refined = width
        if (last := level.prediction) is not None:
            blocks.append(PredictionHead(refined, widths[last.skip], last.num_maps(num_keypoints), 2 * size))
    return blocks


def blocks_of_space(space: SearchSpace, num_keypoints: int) -> list[Block]:
    """Return every distinct block that some arch of ``space`` has, sorted by kind and shape.

    Raises:
        UserError: There are more than ``MOST_BLOCKS``.
    """
    blocks: set[Block] = set()
    for number, block in enumerate(_all_blocks(space, num_keypoints)):
        if number == MOST_BLOCKS:
            raise UserError(f"space {space.name} has more than {MOST_BLOCKS:,} blocks; give it fewer choices")
        blocks.add(block)
    kinds = list(KINDS)
    return sorted(blocks, key=lambda block: (kinds.index(kind_of(block)), block))


def _all_blocks(space: SearchSpace, num_keypoints: int) -> Iterator[Block]:
    """Yield every block of ``space``, with repetitions."""
    for resolution in space.resolutions:
        yield from (Stem(width, resolution) for width in space.stem_widths)
        for stage in range(len(space.stages)):
            yield from _bottlenecks(space, stage, resolution)
        widths = backbone_widths(space)
        refined = widths[-1]
        for level, outputs in zip(HEAD, space.deconv_widths, strict=True):
            size = resolution // level.input_stride
            for shape in itertools.product(refined, widths[level.skip], outputs):
                yield Deconv(*shape, size)
            if (last := level.prediction) is not None:
                for in_width, skip_width in itertools.product(outputs, widths[last.skip]):
                    yield PredictionHead(in_width, skip_width, last.num_maps(num_keypoints), 2 * size)
            refined = outputs


def backbone_widths(space: SearchSpace) -> list[tuple[int, ...]]:
    """Return the possible widths after the stem and after each stage."""
    return [space.stem_widths, *(stage.widths for stage in space.stages)]


def _bottlenecks(space: SearchSpace, stage: int, resolution: int) -> Iterator[Bottleneck]:
    choices = space.stages[stage]
    in_widths = backbone_widths(space)[stage]
    size = resolution // BACKBONE_STRIDES[stage]
    for width, ratio, kernel_size in itertools.product(choices.widths, choices.expand_ratios, choices.kernel_sizes):
        for in_width in in_widths:
            yield Bottleneck(in_width, width, choices.stride, ratio, kernel_size, size)
        if choices.depths[-1] > 1:
            yield Bottleneck(width, width, 1, ratio, kernel_size, size // choices.stride)
