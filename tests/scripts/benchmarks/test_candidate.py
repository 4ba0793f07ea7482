"""The benchmark of a candidate counts every second once, and the multiply-adds of every image."""

import time
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.benchmarks import candidate
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.weight_sharing import SuperNet
from tests.helpers.searches import SPACE


def test_time_within_another_part_counts_for_the_inner_one_alone() -> None:
    now = [0.0]
    clock = candidate.Clock()

    def work(seconds: float) -> None:
        now[0] += seconds

    def steps() -> Iterator[int]:
        for number in range(3):
            work(2.0)
            yield number

    inner, stepped = clock.timed("inner", work), clock.timed("steps", steps)
    with mock.patch.object(time, "process_time", side_effect=lambda: now[0]), clock.measure("outer"):
        work(1.0)
        inner(10.0)
        assert list(stepped()) == [0, 1, 2]
        work(4.0)
    assert dict(clock.seconds) == pytest.approx({"inner": 10.0, "steps": 6.0, "outer": 5.0})


def test_multiply_adds_are_those_of_every_image_at_its_own_size() -> None:
    train, val = SyntheticPeople(COCO, 3, 1, 64, 64), SyntheticPeople(COCO, 2, 2, 128, 64)
    settings = InferenceSettings(flip_test=True)
    scorer = SubnetScorer(SuperNet(SPACE, COCO.num), train, val, settings, num_calibration_images=3)
    network = scorer.subnet(SPACE.smallest())
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(3, 3, 64, 64))
        network(torch.zeros(2 * 2, 3, 64, 128))
    assert candidate.candidate_macs(scorer, SPACE.smallest(), val) == counter.get_total_flops() // 2
