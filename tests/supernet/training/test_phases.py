"""Phases: the subnets of each step, and the schedules that are refused."""

from dataclasses import replace

import numpy as np
import pytest

from supernet.errors import UserError
from supernet.space import SearchSpace
from supernet.training.phases import Phase, schedule, step_archs

SPACE = SearchSpace.load("nano")
LARGEST = Phase("largest", 5, ("resolution",), ("largest",), 1e-2)
KERNEL = Phase("kernel", 1, ("resolution", "kernel_size"), ("random",), 1e-3, "frozen")
WIDTH = Phase(
    "width",
    4,
    ("resolution", "kernel_size", "depth", "expand_ratio", "width"),
    ("largest", "random", "smallest"),
    1e-3,
    "inplace",
)


def test_phases_share_the_steps_without_gap_or_overlap() -> None:
    scheduled = schedule([LARGEST, KERNEL, WIDTH], SPACE, 100)
    assert [(item.start, item.stop) for item in scheduled] == [(0, 50), (50, 60), (60, 100)]
    assert [set(item.newly_elastic) for item in scheduled] == [
        {"resolution"},
        {"kernel_size"},
        {"depth", "expand_ratio", "width"},
    ]


def test_a_phase_varies_only_its_elastic_dimensions() -> None:
    kernel = schedule([LARGEST, KERNEL], SPACE, 60)[1]
    largest = SPACE.largest()
    kernel_sizes = set()
    for step in range(50):
        (arch,) = step_archs(kernel, 128, 0, step)
        assert arch.resolution == 128
        assert (arch.stem_width, arch.deconv_widths) == (largest.stem_width, largest.deconv_widths)
        for stage, full in zip(arch.stages, largest.stages, strict=True):
            assert (stage.width, stage.expand_ratios) == (full.width, full.expand_ratios)
            kernel_sizes |= set(stage.kernel_sizes)
    assert kernel_sizes == {3, 5, 7}


def test_roles_come_in_their_order_at_the_resolution_of_the_step() -> None:
    width = schedule([WIDTH], SPACE, 10)[0]
    first, middle, last = step_archs(width, 160, 0, 3)
    assert first == replace(SPACE.largest(), resolution=160)
    assert last == replace(SPACE.smallest(), resolution=160)
    assert middle in SPACE


@pytest.mark.parametrize(("scale", "size"), [(0.67, 96), (1.0, 144), (0.01, 16)])
def test_a_scaled_phase_has_one_input_size_and_archs_of_the_space(scale: float, size: int) -> None:
    assert SPACE.resolutions == (128, 144, 160)
    scaled = schedule([replace(LARGEST, resolution_scale=scale)], SPACE, 10)[0]
    assert scaled.resolutions == (size,)
    (arch,) = step_archs(scaled, size, 0, 0)
    assert arch in SPACE
    assert arch.resolution == (size if size in SPACE.resolutions else 160)


def test_the_largest_subnet_may_weigh_more_in_a_step() -> None:
    assert WIDTH.subnets == ("largest", "random", "smallest")
    assert WIDTH.loss_weights() == [1 / 3] * 3
    assert replace(WIDTH, largest_weight=3.0).loss_weights() == [0.6, 0.2, 0.2]


def test_sampled_subnets_depend_on_seed_step_and_slot_only() -> None:
    phase = schedule([replace(WIDTH, subnets=("random", "random"), teacher="none")], SPACE, 10)[0]
    np.random.default_rng(0).random(10)
    first = step_archs(phase, 128, 1, 5)
    assert first == step_archs(phase, 128, 1, 5)
    assert first[0] != first[1]
    assert first != step_archs(phase, 128, 1, 6)
    assert first != step_archs(phase, 128, 2, 5)


@pytest.mark.parametrize(
    ("phases", "steps", "message"),
    [
        ([], 10, "no phases"),
        ([replace(LARGEST, elastic=("depht",))], 10, "depht"),
        ([replace(LARGEST, subnets=("biggest",))], 10, "biggest"),
        ([replace(LARGEST, subnets=())], 10, "subnets"),
        ([replace(LARGEST, share=0)], 10, "share"),
        ([replace(LARGEST, learning_rate=0)], 10, "learning_rate"),
        ([replace(LARGEST, resolution_scale=0.0)], 10, "resolution_scale"),
        ([replace(WIDTH, largest_weight=0.0)], 10, "largest_weight"),
        ([replace(WIDTH, largest_weight=float("inf"))], 10, "largest_weight"),
        ([KERNEL], 10, "frozen teacher"),
        ([replace(WIDTH, subnets=("random", "largest"))], 10, "inplace"),
        ([LARGEST, KERNEL, replace(KERNEL, name="d", elastic=("resolution", "depth"))], 10, "kernel_size was elastic"),
        ([LARGEST, KERNEL, replace(KERNEL, share=2)], 10, "phase 2 .* has the same name"),
        ([LARGEST, KERNEL], 1, "no step"),
    ],
)
def test_impossible_phases_are_refused_before_training(phases: list[Phase], steps: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        schedule(phases, SPACE, steps)
