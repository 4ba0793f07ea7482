"""SearchSpace: it contains exactly the archs that its choices allow, and draws no others."""

import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supernet.arch import Arch, Stage
from supernet.errors import UserError
from supernet.space import DIMENSIONS, SearchSpace, StageChoices
from tests.helpers.spaces import enumerate_archs

GOLDEN = Path(__file__).parents[1] / "golden"
ENTRIES = json.loads((GOLDEN / "costs.json").read_text())
SPACES = {name: SearchSpace.load(name) for name in ("nano", "litepose")}
FIXED = StageChoices((24,), (1,), 2, (3,), (3,))
TINY = SearchSpace(
    "tiny",
    (64, 96),
    (8,),
    (StageChoices((8, 16), (1, 2), 2, (3, 6), (3,)), FIXED, FIXED, StageChoices((40,), (1, 3), 1, (3,), (3, 7))),
    ((16,), (16, 24), (16,)),
)


def values(arch: Arch) -> list[Any]:
    """Every value of an arch by its place, blocks last."""
    head = [arch.resolution, arch.stem_width, *arch.deconv_widths]
    head += [value for stage in arch.stages for value in (stage.width, stage.depth)]
    return head + [list(stage.blocks()) for stage in arch.stages]


def test_count_equals_enumeration() -> None:
    # Stage 0: 2 widths x (2 + 4 blocks' ratios); stage 3: 2 + 8 kernels; 2 resolutions, 2 deconv widths.
    assert TINY.count() == len(set(enumerate_archs(TINY))) == (2 * 6) * 10 * 2 * 2


def test_sampling_reaches_every_arch_and_no_other() -> None:
    rng = np.random.default_rng(0)
    assert {TINY.sample(rng) for _ in range(20_000)} == set(enumerate_archs(TINY))


def test_every_enumerated_arch_is_inside() -> None:
    assert all(arch in TINY for arch in set(enumerate_archs(TINY)))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['name']}-{entry['joints']}")
def test_published_archs_lie_in_the_full_space(entry: dict[str, Any]) -> None:
    assert Arch.from_dict(entry["arch"]) in SPACES["litepose"]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_whatever_is_drawn_is_inside(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    first, second = space.largest(), space.smallest()
    for _ in range(100):
        sampled = space.sample(rng)
        first, second = space.mutate(first, rng, 0.2), space.crossover(first, sampled, rng)
        for arch in (sampled, first, second, space.mutate(second, rng, 1.0)):
            space.check(arch)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_equal_seeds_draw_equal_archs(space: SearchSpace) -> None:
    drawn = [[space.sample(rng) for _ in range(5)] for rng in map(np.random.default_rng, (7, 7, 8))]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 5


def test_mutation_at_rate_0_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    for arch in (SPACES["nano"].sample(rng) for _ in range(50)):
        assert SPACES["nano"].mutate(arch, rng, 0.0) == arch


def test_mutation_redraws_about_as_many_values_as_its_rate_says() -> None:
    space, rng = SPACES["litepose"], np.random.default_rng(0)
    arch = space.sample(rng)
    changed = sum(space.mutate(arch, rng, 0.3).resolution != arch.resolution for _ in range(2000))
    expected = 0.3 * (1 - 1 / len(space.resolutions))
    assert changed / 2000 == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 2000) ** 0.5)


def test_crossover_takes_every_value_from_one_of_its_parents() -> None:
    space, rng = SPACES["litepose"], np.random.default_rng(0)
    for _ in range(50):
        first, second = space.sample(rng), space.sample(rng)
        child = space.crossover(first, second, rng)
        for mine, left, right in zip(*map(values, (child, first, second)), strict=True):
            if not isinstance(mine, list):
                assert mine in (left, right)
                continue
            for block, *parents in itertools.zip_longest(mine, left, right):
                if block is not None:
                    have = [parent for parent in parents if parent is not None]
                    assert block[0] in [ratio for ratio, _ in have]
                    assert block[1] in [kernel for _, kernel in have]


def test_crossover_of_an_arch_with_itself_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    arch = SPACES["litepose"].sample(rng)
    assert SPACES["litepose"].crossover(arch, arch, rng) == arch


def test_blocks_past_the_depth_are_no_part_of_an_arch() -> None:
    rng = np.random.default_rng(0)
    shallow = TINY.smallest()
    stage = shallow.stages[0]
    deep = [
        replace(shallow, stages=(Stage(8, 2, (*stage.expand_ratios, ratio), (3, 3)), *shallow.stages[1:]))
        for ratio in (3, 6)
    ]
    assert len({*deep, shallow}) == 3
    cut = {
        child
        for child in (TINY.crossover(shallow, parent, rng) for parent in deep for _ in range(40))
        if child.stages[0].depth == 1
    }
    assert cut == {shallow}
    assert {shallow.digest()} == {child.digest() for child in cut}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_the_extremes_hold_the_extreme_of_every_choice(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    low, high = values(space.smallest()), values(space.largest())
    for arch in (space.sample(rng) for _ in range(50)):
        for mine, least, most in zip(values(arch), low, high, strict=True):
            if not isinstance(mine, list):
                assert least <= mine <= most
                continue
            assert all(
                least[0][0] <= ratio <= most[0][0] and least[0][1] <= kernel <= most[0][1] for ratio, kernel in mine
            )


INSIDE = TINY.smallest()


@pytest.mark.parametrize(
    ("outside", "named"),
    [
        (replace(INSIDE, resolution=80), ("resolution is 80", "64, 96")),
        (replace(INSIDE, stem_width=16), ("stem width is 16", "8")),
        (
            replace(INSIDE, deconv_widths=(16, 32, 16)),
            ("deconv 1: width is 32", "16, 24"),
        ),
        (
            replace(INSIDE, stages=(replace(INSIDE.stages[0], width=24), *INSIDE.stages[1:])),
            ("stage 0: width is 24", "8, 16"),
        ),
        (
            replace(INSIDE, stages=(*INSIDE.stages[:3], Stage(40, 1, (3, 3), (3, 3)))),
            ("stage 3: depth is 2", "1, 3"),
        ),
        (
            replace(INSIDE, stages=(Stage(8, 2, (3, 4), (3, 3)), *INSIDE.stages[1:])),
            ("stage 0, block 1: expand ratio is 4", "3, 6"),
        ),
        (
            replace(INSIDE, stages=(*INSIDE.stages[:3], Stage(40, 1, (3, 3, 3), (3, 7, 5)))),
            ("stage 3, block 2: kernel size is 5", "3, 7"),
        ),
    ],
)
def test_a_value_outside_is_refused_with_its_place_and_what_is_allowed(outside: Arch, named: tuple[str, str]) -> None:
    place, allowed = named
    with pytest.raises(UserError, match=f"^{re.escape(place)}.*: {allowed}$"):
        TINY.check(outside)
    assert outside not in TINY


def test_only_archs_are_inside() -> None:
    assert TINY.smallest() in TINY
    assert "arch" not in TINY


def test_digest_identifies_the_choices_and_not_the_name() -> None:
    assert replace(TINY, name="other").digest() == TINY.digest()
    assert replace(TINY, resolutions=(64,)).digest() != TINY.digest()
    assert SearchSpace.from_dict(TINY.to_dict()).digest() == TINY.digest()


@pytest.mark.parametrize("space", [*SPACES.values(), TINY], ids=lambda space: space.name)
def test_plain_values_give_back_the_space(space: SearchSpace) -> None:
    assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space


def test_restricting_fixes_all_other_dimensions_at_their_largest() -> None:
    space = SPACES["nano"]
    assert space.restrict(()).count() == 1
    assert space.restrict(()).largest() == space.largest()
    assert space.restrict(DIMENSIONS) == space
    only_kernels = space.restrict(("kernel_size",))
    assert only_kernels.count() == math.prod(len(stage.kernel_sizes) ** stage.depths[-1] for stage in space.stages)
    assert space.restrict(("resolution",)).count() == len(space.resolutions)
    rng = np.random.default_rng(0)
    for arch in (only_kernels.sample(rng) for _ in range(20)):
        assert arch in space
        largest = [
            replace(stage, kernel_sizes=(choices.kernel_sizes[-1],) * stage.depth)
            for stage, choices in zip(arch.stages, space.stages, strict=True)
        ]
        assert replace(arch, stages=tuple(largest)) == space.largest()


def test_restricting_to_an_unknown_dimension_is_refused() -> None:
    with pytest.raises(UserError, match="unknown elastic dimension 'kernel'; choose among"):
        TINY.restrict(("kernel",))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"resolutions": [96, 64]}, r"resolutions .* ascending order, got \[96, 64\]"),
        ({"resolutions": [64, 64]}, r"resolutions .* distinct .* got \[64, 64\]"),
        ({"resolutions": []}, r"resolutions .* got \[\]"),
        ({"resolutions": [100]}, "resolution is 100; it must be a multiple of 16"),
        ({"resolutions": 64}, r"resolutions must be a list.*, got 64"),
        ({"stem_widths": [8.5]}, r"stem_widths must be a whole.*, got 8\.5"),
        ({"deconv_widths": [[16], [16]]}, "2 deconv widths; a LitePose has 4 and 3"),
        ({"stages": []}, "0 stages"),
        ({"stages": {}}, r"stages must be a list.*, got \{\}"),
        ({"heads": 1}, r"unknown keys \['heads'\]"),
    ],
)
def test_a_wrong_space_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        SearchSpace.from_dict({**TINY.to_dict(), **change})


def test_kernel_sizes_that_weights_cannot_share_are_refused() -> None:
    value = TINY.to_dict()
    value["stages"][1]["kernel_sizes"] = [3, 9]
    with pytest.raises(UserError, match=r"kernel_sizes must be among 3, 5 and 7, got \[3, 7, 9\]"):
        SearchSpace.from_dict(value)


def test_a_space_that_is_not_there_is_refused_with_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no space named 'mano'; choose one of \['litepose', 'nano', 'nano_long', 'photos'\]"
    ):
        SearchSpace.load("mano")
    with pytest.raises(UserError, match=r"cannot read search space .*missing\.yaml"):
        SearchSpace.load(tmp_path / "missing.yaml")
    (tmp_path / "broken.yaml").write_text("name: [")
    with pytest.raises(UserError, match=r"cannot read search space .*broken\.yaml"):
        SearchSpace.load(tmp_path / "broken.yaml")
