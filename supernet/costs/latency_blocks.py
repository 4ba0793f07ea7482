"""The blocks whose latencies add up to that of a network: what they are, and which an arch or a space has (no torch).

A block is a part of LitePose between two places where a search space can choose: the stem with the normalisation of the
images before it, one inverted bottleneck, one level of the fusion deconvolution head (both transposed convolutions,
their sum and its activation), and one prediction (both separable convolutions and their sum). Blocks of equal shapes
are equal, wherever they stand, so each is measured once.
"""

import itertools
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

from supernet.arch import NUM_LEVELS, Arch
from supernet.errors import UserError
from supernet.space import SearchSpace

BACKBONE_STRIDES = (2, 4, 8, 16, 16)
"""Of the maps after the stem and after each stage, over the input."""
LEVEL_STRIDES = (16, 8, 4)
"""Of the maps that go into each deconvolution level."""
MOST_BLOCKS = 1_000_000
"""Of a space; the full one has a few thousand."""


@dataclass(frozen=True, order=True)
class Stem:
    """An image (input_size, input_size, 3) uint8 to ``width`` maps of half its side."""

    width: int
    input_size: int


@dataclass(frozen=True, order=True)
class Bottleneck:
    """An inverted bottleneck on maps of ``input_size`` x ``input_size`` px; residual where shapes allow it."""

    in_width: int
    width: int
    stride: int
    expand_ratio: int
    kernel_size: int
    input_size: int


@dataclass(frozen=True, order=True)
class Deconv:
    """A level of the head: ``in_width`` refined and ``skip_width`` backbone maps to ``width`` of twice the side."""

    in_width: int
    skip_width: int
    width: int
    input_size: int


@dataclass(frozen=True, order=True)
class PredictionHead:
    """``in_width`` refined and ``skip_width`` backbone maps to ``outputs`` maps of the same side."""

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
"""Names of the numbers that make a block of each kind, in the order in which they are given."""


def kind_of(block: Block) -> str:
    """Return the name of a block's kind in ``KINDS``."""
    return _NAMES[type(block)]


def key_of(block: Block) -> str:
    """Return a name of one line for a block, such as "bottleneck 16 32 2 6 5 128": kind, then shape."""
    return " ".join(map(str, (kind_of(block), *astuple(block))))


def num_border_elements(block: Block) -> int:
    """Return how many numbers go into a block and out of it, for one image; those of the image do not count."""
    area = block.input_size**2
    if isinstance(block, Stem):
        return block.width * area // 4
    if isinstance(block, Bottleneck):
        return block.in_width * area + block.width * area // block.stride**2
    inputs = (block.in_width + block.skip_width) * area
    return inputs + (4 * block.width if isinstance(block, Deconv) else block.outputs) * area


def blocks_of(arch: Arch, num_keypoints: int) -> list[Block]:
    """Return the blocks of ``LitePose(arch, num_keypoints)`` in forward order, for one square image."""
    found: list[Block] = [Stem(arch.stem_width, arch.resolution)]
    widths, size = [arch.stem_width], arch.resolution // 2
    for stage in arch.stages:
        width = widths[-1]
        for j, (expand_ratio, kernel_size) in enumerate(stage.blocks()):
            stride = stage.stride if j == 0 else 1
            found.append(Bottleneck(width, stage.width, stride, expand_ratio, kernel_size, size))
            width, size = stage.width, size // stride
        widths.append(width)
    refined = widths[-1]
    for level, width in enumerate(arch.deconv_widths):
        size = arch.resolution // LEVEL_STRIDES[level]
        found.append(Deconv(refined, widths[3 - level], width, size))
        refined = width
        if level > 0:
            found.append(PredictionHead(refined, widths[2 - level], num_outputs(level, num_keypoints), 2 * size))
    return found


def blocks_of_space(space: SearchSpace, num_keypoints: int) -> list[Block]:
    """Return every distinct block that some arch of ``space`` has, sorted by kind and shape.

    Raises:
        UserError: There are far too many to measure.
    """
    found: set[Block] = set()
    for number, block in enumerate(_all_blocks(space, num_keypoints)):
        if number == MOST_BLOCKS:
            raise UserError(f"space {space.name} has more than {MOST_BLOCKS:,} blocks; give it fewer choices")
        found.add(block)
    kinds = list(KINDS)
    return sorted(found, key=lambda block: (kinds.index(kind_of(block)), block))


def _all_blocks(space: SearchSpace, num_keypoints: int) -> Iterator[Block]:
    """Yield every block of ``space``, some of them several times."""
    for resolution in space.resolutions:
        yield from (Stem(width, resolution) for width in space.stem_widths)
        for stage in range(len(space.stages)):
            yield from _bottlenecks(space, stage, resolution)
        widths = backbone_widths(space)
        for level, outputs in enumerate(space.deconv_widths):
            size = resolution // LEVEL_STRIDES[level]
            refined = refined_widths(space)[level]
            for shape in itertools.product(refined, widths[3 - level], outputs):
                yield Deconv(*shape, size)
            if level > 0:
                predicted = num_outputs(level, num_keypoints)
                for in_width, skip_width in itertools.product(outputs, widths[2 - level]):
                    yield PredictionHead(in_width, skip_width, predicted, 2 * size)


def backbone_widths(space: SearchSpace) -> list[tuple[int, ...]]:
    """Return the possible widths after the stem and after each stage."""
    return [space.stem_widths, *(stage.widths for stage in space.stages)]


def refined_widths(space: SearchSpace) -> list[tuple[int, ...]]:
    """Return the possible widths of the refined maps that go into each deconvolution level."""
    return [space.stages[-1].widths, *space.deconv_widths[: NUM_LEVELS - 1]]


def num_outputs(level: int, num_keypoints: int) -> int:
    """Return how many maps the prediction after a level gives: heatmaps and tags, then heatmaps alone."""
    return num_keypoints * (2 if level == 1 else 1)


def _bottlenecks(space: SearchSpace, stage: int, resolution: int) -> Iterator[Bottleneck]:
    choices = space.stages[stage]
    in_widths = backbone_widths(space)[stage]
    size = resolution // BACKBONE_STRIDES[stage]
    for width, ratio, kernel_size in itertools.product(choices.widths, choices.expand_ratios, choices.kernel_sizes):
        for in_width in in_widths:
            yield Bottleneck(in_width, width, choices.stride, ratio, kernel_size, size)
        if choices.depths[-1] > 1:
            yield Bottleneck(width, width, 1, ratio, kernel_size, size // choices.stride)
