"""Batches are equal in every source of images, start method of processes, and number of worker processes."""

import json
import multiprocessing
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import evenly_spread
from supernet.pose.datasets import build
from supernet.pose.training.augmentation import Augmentation, Batch, TrainingImages, collate
from supernet.pose.training.loader import StepSampler, training_loader
from tests.helpers.coco_files import write_custom_set

STEPS = 3


def _folder(root: Path) -> dict[str, Any]:
    return write_custom_set(root)


def _with_images(root: Path, place: str) -> dict[str, Any]:
    dataset = write_custom_set(root)
    shutil.make_archive(str(root / "train"), "zip", root, "train")
    return {**dataset, "train": {**dataset["train"], "images": place}}


def _archive_of_full_names(root: Path) -> dict[str, Any]:
    dataset = _with_images(root, "train.zip")
    path = root / "annotations" / "train.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = f"train/{image['file_name']}"
    path.write_text(json.dumps(content))
    return dataset


def _with_a_broken_image(root: Path) -> dict[str, Any]:
    dataset = write_custom_set(root)
    next((root / "train").iterdir()).write_bytes(b"")
    return {**dataset, "max_bad_share": 0.5}


SYNTHETIC = {
    "kind": "synthetic",
    "keypoints": "crowdpose",
    "width": 64,
    "height": 64,
    **{split: {"num_images": 4, "seed": 1} for split in ("train", "val", "test")},
}
SOURCES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "folder": _folder,
    "archive": lambda root: _with_images(root, "train.zip"),
    "folder of an archive": lambda root: _with_images(root, "train.zip@train"),
    "archive, names with its folder": _archive_of_full_names,
    "images that fail": lambda root: {**write_custom_set(root), "on_bad_image": "fail"},
    "a broken image": _with_a_broken_image,
    "built-in people": lambda root: SYNTHETIC,
}


@pytest.fixture(params=SOURCES)
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> PoseDataset:
    """The training split of each kind of data set."""
    return build(SOURCES[request.param](tmp_path), "train")


def batches(dataset: PoseDataset, num_workers: int) -> list[Batch]:
    sampler = StepSampler(len(dataset), [32] * STEPS, 2, 0)
    return list(training_loader(dataset, sampler, Augmentation.none(), num_workers))


def _is_equal(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("images", "people", "mask", "image_ids"))


@pytest.fixture
def start_method(request: pytest.FixtureRequest) -> Iterator[str]:
    """The start method of new processes, as a platform or a user sets it."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize("wrap", [lambda images: images, CachedDataset, lambda images: evenly_spread(images, 3)])
def test_another_process_reads_the_same_images(
    dataset: PoseDataset, wrap: Callable[[PoseDataset], PoseDataset]
) -> None:
    images = TrainingImages(wrap(dataset), Augmentation.none())
    keys = [(index, 32, index) for index in range(3)]
    arrived = pickle.loads(pickle.dumps(images))  # noqa: S301 as processes do that are not forked
    assert _is_equal(collate([arrived[key] for key in keys]), collate([images[key] for key in keys]))


def test_worker_processes_make_the_same_batches(dataset: PoseDataset) -> None:
    expected, made = batches(dataset, 0), batches(dataset, 2)
    assert len(made) == STEPS
    assert all(map(_is_equal, made, expected))


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["spawn", "forkserver"], indirect=True)
def test_worker_processes_that_are_not_forked_make_the_same_batches(dataset: PoseDataset, start_method: str) -> None:
    test_worker_processes_make_the_same_batches(dataset)
