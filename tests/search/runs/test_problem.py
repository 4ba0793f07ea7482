"""Processes that share archs find what one process finds, to the last bit, where cores and memory suffice."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from search.runs import problem
from search.runs.evaluator import Measurement
from search.runs.problem import measure_subnets
from supernet.arch import Arch
from supernet.compute.device import DeviceMemory
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.geometry import normalise
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.weight_sharing import SuperNet
from tests.helpers.searches import SPACE

TRAIN, VAL = (SyntheticPeople(COCO, 6, seed, 64, 64) for seed in (1, 2))
ARCHS = [SPACE.sample(np.random.default_rng(seed)) for seed in range(5)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scorer(num_workers: int) -> SubnetScorer:
    torch.manual_seed(0)
    settings = InferenceSettings(detection_threshold=0.0, max_people=3)
    return SubnetScorer(SuperNet(SPACE, COCO.num), TRAIN, VAL, settings, 4, num_workers=num_workers)


def test_the_number_of_processes_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    def outputs(scorer: SubnetScorer, arch: Arch, images: PoseDataset) -> Measurement:
        low, high = scorer.subnet(arch)(normalise(scorer.calibration_images(arch.resolution)[0]))
        sums = {"low": float(low.double().sum()), "high": float(high.double().sum())}
        return Measurement({**measure_subnet(scorer, arch, images).metrics, **sums})

    measure_subnet = problem.measure_subnet
    monkeypatch.setattr(problem, "measure_subnet", outputs)
    with torch.inference_mode():
        expected = dict(measure_subnets(scorer(1), ARCHS, CachedDataset(VAL)))
        assert len({measurement.metrics["low"] for measurement in expected.values()}) == len(ARCHS)
        for num_workers in (2, 3, 9):
            assert dict(measure_subnets(scorer(num_workers), ARCHS, CachedDataset(VAL))) == expected


@pytest.mark.parametrize(
    ("num_workers", "num_archs", "free", "is_shared"),
    [(2, 2, 2**40, True), (4, 2, 2**40, True), (5, 2, 2**40, False), (2, 1, 2**40, False), (2, 5, 2**20, False)],
)
def test_archs_are_shared_if_that_keeps_half_of_the_cores_busy_and_fits_the_memory(
    num_workers: int, num_archs: int, free: int, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(scorer: SubnetScorer, arch: Arch, images: PoseDataset) -> Measurement:
        return Measurement({"process": os.getpid(), "workers": scorer.num_workers})

    monkeypatch.setattr(problem, "measure_subnet", place)
    monkeypatch.setattr(problem, "device_memory", lambda _: DeviceMemory(free, 2 * free))
    measured = [metrics for _, (metrics, _) in measure_subnets(scorer(num_workers), ARCHS[:num_archs], VAL)]
    assert len(measured) == num_archs
    assert {metrics["workers"] for metrics in measured} == {1 if is_shared else num_workers}
    assert (os.getpid() in {metrics["process"] for metrics in measured}) is not is_shared


def test_no_archs_give_nothing() -> None:
    assert list(measure_subnets(scorer(2), [], VAL)) == []
