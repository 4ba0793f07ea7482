"""Large arrays are sent to processes once, through shared memory; where that is full, they are copied."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.multiprocessing

from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.data import shared_arrays
from supernet.pose.data.shared_arrays import SharesArrays
from supernet.pose.datasets import build
from tests.helpers.coco_files import write_custom_set


@dataclass(frozen=True, eq=False)
class Table(SharesArrays):
    """Arrays of several kinds."""

    large: np.ndarray[Any, Any]
    flags: np.ndarray[Any, Any]
    small: np.ndarray[Any, Any]
    name: str


def table() -> Table:
    rng = np.random.default_rng(0)
    return Table(rng.random((300, 40)), rng.random(2**17) < 0.5, np.arange(3), "x")


def change(shared: Table, answers: Any) -> None:
    """Answer what arrived, and write into it."""
    answers.put((float(shared.large.sum()), int(shared.flags.sum()), shared.small.tolist(), shared.name))
    shared.large[0, 0] = 77.0


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_process_sees_the_memory_of_its_parent(start_method: str) -> None:
    shared = table()
    expected = (float(shared.large.sum()), int(shared.flags.sum()), shared.small.tolist(), shared.name)
    context: Any = torch.multiprocessing.get_context(start_method)
    answers = context.Queue()
    process = context.Process(target=change, args=(shared, answers))
    process.start()
    assert answers.get(timeout=120) == expected
    process.join()
    # A forked process writes into its own copy of the page; nobody writes into tables.
    assert (shared.large[0, 0] == 77.0) == (start_method == "spawn")


@pytest.mark.parametrize("has_room", [True, False])
def test_a_sent_object_is_the_same(has_room: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_arrays, "_has_room", lambda _: has_room)
    shared = table()
    for _ in range(2):
        read = copy.deepcopy(shared)
        for name in ("large", "flags", "small"):
            assert np.array_equal(getattr(read, name), getattr(shared, name))
            assert getattr(read, name).dtype == getattr(shared, name).dtype
        assert read.name == "x"
    assert len(shared.__dict__["_shared"]) == 2 * has_room


def test_too_little_shared_memory_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared_arrays._has_room(0)
    assert not shared_arrays._has_room(2**62)
    monkeypatch.setattr(shared_arrays, "_PLACE", "/absent")
    assert not shared_arrays._has_room(0)


def test_a_sent_data_set_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_arrays, "_LEAST_BYTES", 1)
    dataset = write_custom_set(tmp_path, 4)
    people = build({**dataset, "on_bad_image": "fail"}, "train")
    assert isinstance(people, CocoPeople)
    truth = people.ground_truth()
    read = copy.deepcopy(people)
    assert read.ground_truth() == truth == people.ground_truth()
    for index in range(4):
        assert np.array_equal(read[index].image, people[index].image)
        assert np.array_equal(read[index].people, people[index].people)
