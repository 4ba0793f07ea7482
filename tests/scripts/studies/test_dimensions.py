"""The subnets of the study of dimensions, and their figures."""

from dataclasses import replace

import numpy as np
import pytest

from scripts.studies.dimensions import Variant, reduced, rows_of, widths_and_resolutions
from search.candidate import Score
from search.cost import arch_costs
from supernet.errors import UserError
from supernet.pose.metrics.image_matches import NUM_THRESHOLDS, ImageMatches
from supernet.space import SearchSpace

PHOTOS = SearchSpace.load("photos")


def test_every_subnet_with_one_thing_less_is_in_the_space_and_costs_less() -> None:
    largest, *others = reduced(PHOTOS, 256)
    costs = [arch_costs(variant.arch, 17)["macs"] for variant in (largest, *others)]
    assert all(variant.arch in PHOTOS for variant in (largest, *others))
    assert all(cost < costs[0] for cost in costs[1:])
    assert len({variant.arch for variant in others}) == len(others)
    assert {variant.arch.resolution for variant in (largest, *others)} == {256}


def test_kernels_of_at_most_5_keep_what_a_stage_has_below_and_take_its_smallest_above() -> None:
    by_name = {variant.name: variant.arch for variant in reduced(PHOTOS, 256)}
    kernels = [stage.kernel_sizes[0] for stage in by_name["kernel_sizes of at most 5"].stages]
    smallest = [stage.kernel_sizes[0] for stage in by_name["smallest kernel_size"].stages]
    assert kernels == [5, 5, 5, 5]
    assert smallest == [3, 5, 3, 3]


def test_a_dimension_without_a_choice_is_left_out() -> None:
    single = SearchSpace(
        "single",
        PHOTOS.resolutions,
        PHOTOS.stem_widths,
        tuple(replace(stage, kernel_sizes=stage.kernel_sizes[-1:]) for stage in PHOTOS.stages),
        PHOTOS.deconv_widths,
    )
    assert "smallest kernel_size" not in [variant.name for variant in reduced(single, 192)]


def test_both_widths_come_at_every_resolution() -> None:
    variants = widths_and_resolutions(PHOTOS)
    assert len({variant.arch for variant in variants}) == 2 * len(PHOTOS.resolutions)
    assert all(variant.arch in PHOTOS for variant in variants)


def test_differences_are_from_the_first_subnet_on_the_same_draws() -> None:
    found = np.ones((4, NUM_THRESHOLDS), bool)
    all_found = ImageMatches(np.ones(4, np.int64), np.arange(4), found, ~found)
    half_found = ImageMatches(np.ones(4, np.int64), np.arange(2), found[:2], ~found[:2])
    variants = [Variant(name, PHOTOS.largest()) for name in ("all", "same", "half")]
    scores = [Score(4, {"AP": ap}) for ap in (1.0, 1.0, 0.5)]
    rows = rows_of(variants, scores, [all_found, all_found, half_found], 17)
    assert rows[1]["difference_90%"] == [0, 0]
    low, high = rows[2]["difference_90%"]
    assert rows[2]["difference"] == -0.5
    assert low < -0.5 < high <= 0


def test_a_resolution_outside_the_space_is_refused() -> None:
    with pytest.raises(UserError, match="300"):
        reduced(PHOTOS, 300)
