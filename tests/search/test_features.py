"""Features of archs: multiply-adds by part, and every choice changes them."""

import numpy as np
import pytest

from search.features import features, work
from supernet.arch import layers
from supernet.space import SearchSpace

NANO = SearchSpace.load("nano")


@pytest.mark.parametrize("name", ["nano", "litepose"])
def test_work_is_the_multiply_adds_of_blocks_and_deconvolutions(name: str) -> None:
    space = SearchSpace.load(name)
    archs = [space.smallest(), space.largest(), *space.decode(space.layout.sample(np.random.default_rng(3), 10))]
    for arch, macs_of_parts in zip(archs, work(space, space.encode(archs)), strict=True):
        prefixes = [f"stage.{i}." for i in range(4)] + [f"deconv_{{}}.{i}" for i in range(3)]
        expected = []
        for prefix in prefixes:
            names = (prefix.format("refined"), prefix.format("raw"))
            here = [layer for layer in layers(arch, 17) if layer.name.startswith(names)]
            sizes = [layer.input_size if layer.transposed else layer.output_size for layer in here]
            macs = [
                layer.kernel_size**2 * layer.in_channels // layer.groups * layer.out_channels * size**2
                for layer, size in zip(here, sizes, strict=True)
            ]
            expected.append(sum(macs))
        assert macs_of_parts.tolist() == expected


def test_features_change_with_every_choice_of_a_present_block() -> None:
    (genes,) = NANO.encode([NANO.smallest()])
    for column, choices in enumerate(NANO.layout.choices):
        changed = genes.copy()
        if genes[column] >= 0 and len(choices) > 1 and "depth" not in NANO.layout.names[column]:
            changed[column] = 1
            assert (features(NANO, changed[None]) != features(NANO, genes[None])).any()
