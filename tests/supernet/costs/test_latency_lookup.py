"""Predictions for many archs at once equal those of single archs and the formula."""

import numpy as np

from supernet.arch import Arch
from supernet.space import SearchSpace
from tests.helpers.latency_tables import SPACE, fake_table, network_ms
from tests.helpers.spaces import enumerate_archs


def genes_of(space: SearchSpace, archs: list[Arch]) -> np.ndarray:
    """Genes from their description: indices of choices, -1 for blocks past the depth."""
    rows = []
    for arch in archs:
        row = [space.resolutions.index(arch.resolution), space.stem_widths.index(arch.stem_width)]
        for stage, choices in zip(arch.stages, space.stages, strict=True):
            row += [choices.widths.index(stage.width), choices.depths.index(stage.depth)]
            for ratio, kernel_size in stage.blocks():
                row += [choices.expand_ratios.index(ratio), choices.kernel_sizes.index(kernel_size)]
            row += [-1, -1] * (choices.depths[-1] - stage.depth)
        row += [widths.index(width) for width, widths in zip(arch.deconv_widths, space.deconv_widths, strict=True)]
        rows.append(row)
    return np.array(rows, np.int16)


def test_predictions_of_every_arch_are_the_formula() -> None:
    archs = list(enumerate_archs(SPACE))
    expected = np.array([network_ms(arch) for arch in archs])
    table = fake_table()
    np.testing.assert_allclose(table.latency_ms(SPACE, genes_of(SPACE, archs)), expected, rtol=1e-12)
    np.testing.assert_allclose([table.predict_ms(arch) for arch in archs], expected, rtol=1e-12)
    assert table.latency_ms(SPACE, genes_of(SPACE, [])[:0].reshape(0, genes_of(SPACE, archs[:1]).shape[1])).shape == (
        0,
    )


def test_predictions_in_the_full_space_agree_one_by_one_and_all_at_once() -> None:
    space, rng = SearchSpace.load("litepose"), np.random.default_rng(0)
    archs = [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(50))]
    table = fake_table(space)
    predicted = table.latency_ms(space, genes_of(space, archs))
    np.testing.assert_allclose(predicted, [network_ms(arch) for arch in archs], rtol=1e-12)
