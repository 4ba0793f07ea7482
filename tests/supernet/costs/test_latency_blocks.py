"""Blocks are the network's layers, cut where a space can choose."""

import numpy as np
import pytest

from supernet.arch import Layer, layers, make_divisible
from supernet.costs.latency_blocks import (
    Block,
    Bottleneck,
    Deconv,
    PredictionHead,
    Stem,
    blocks_of,
    blocks_of_space,
    key_of,
    num_border_elements,
)
from supernet.space import SearchSpace
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE
from tests.helpers.spaces import enumerate_archs

Shape = tuple[int, int, int, int, int]


def shape(layer: Layer) -> Shape:
    return (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.input_size)


def shapes_of_layers(block: Block) -> list[Shape]:
    """The convolutions of a block, from the description of the network in LitePose's paper."""
    size = block.input_size
    if isinstance(block, Stem):
        half = size // 2
        return [(3, 32, 3, 2, size), (32, 32, 3, 1, half), (32, block.width, 1, 1, half)]
    if isinstance(block, Bottleneck):
        hidden = make_divisible(block.in_width * block.expand_ratio)
        return [
            (block.in_width, hidden, 1, 1, size),
            (hidden, hidden, block.kernel_size, block.stride, size),
            (hidden, block.width, 1, 1, size // block.stride),
        ]
    inputs = (block.in_width, block.skip_width)
    if isinstance(block, Deconv):
        return [(width, block.width, 4, 2, size) for width in inputs]
    return [conv for width in inputs for conv in ((width, width, 5, 1, size), (width, block.outputs, 1, 1, size))]


@pytest.mark.parametrize("name", ["nano", "litepose"])
def test_the_blocks_of_an_arch_are_its_layers(name: str) -> None:
    space, rng = SearchSpace.load(name), np.random.default_rng(0)
    for arch in [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(50))]:
        shapes = [convolution for block in blocks_of(arch, 17) for convolution in shapes_of_layers(block)]
        assert shapes == [shape(layer) for layer in layers(arch, 17)]


def test_border_elements_are_those_of_the_layers_at_both_ends() -> None:
    assert num_border_elements(Stem(8, 64)) == 8 * 32 * 32
    assert num_border_elements(Bottleneck(8, 16, 2, 3, 3, 32)) == 8 * 32 * 32 + 16 * 16 * 16
    assert num_border_elements(Bottleneck(8, 8, 1, 3, 3, 32)) == 2 * 8 * 32 * 32
    assert num_border_elements(Deconv(8, 24, 16, 4)) == (8 + 24) * 16 + 16 * 64
    assert num_border_elements(PredictionHead(8, 24, 28, 4)) == (8 + 24 + 28) * 16


def test_a_space_has_the_blocks_of_its_archs_and_no_others() -> None:
    archs = list(enumerate_archs(SPACE))
    assert len(archs) == SPACE.count()
    of_archs = {block for arch in archs for block in blocks_of(arch, NUM_KEYPOINTS)}
    listed = blocks_of_space(SPACE, NUM_KEYPOINTS)
    assert set(listed) == of_archs
    assert len(listed) == len(of_archs) == len({key_of(block) for block in listed})


def test_the_full_space_has_few_thousand_blocks() -> None:
    """A table of all is a matter of minutes; that is what makes a table possible."""
    assert len(blocks_of_space(SearchSpace.load("litepose"), 17)) < 5000
