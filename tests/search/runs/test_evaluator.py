"""Scores of archs: their images, their cache between searches, and their distribution over processes."""

import json
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.candidate import Score
from search.runs.evaluator import Evaluator, Measurement, Processes
from search.runs.score_cache import ScoreCache, file_digest
from supernet.arch import Arch
from supernet.compute.distributed import SINGLE_PROCESS
from supernet.errors import UserError
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import evenly_spread
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.space import SearchSpace

SPACE = SearchSpace.load("nano")
ARCHS = [SPACE.sample(np.random.default_rng(seed)) for seed in range(7)]
IMAGES = SyntheticPeople(COCO, 9, 5, 64, 64)


class Measure:
    """AP by arch and images; records the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[int, ...]]] = []

    def __call__(self, archs: Sequence[Arch], images: PoseDataset) -> Iterator[tuple[int, Measurement]]:
        for number, arch in reversed(list(enumerate(archs))):
            self.calls.append((arch.digest(), tuple(map(int, images.image_ids))))
            metrics = {"AP": ap(arch, len(images)), "AR": np.float64(0.5)}
            yield number, Measurement(metrics, f"{arch.digest()} {len(images)}")


def ap(arch: Arch, num_images: int) -> float:
    return int(arch.digest(), 16) / 16**12 / num_images


def evaluator(
    measure: Measure,
    cache: Path | None = None,
    weights: str = "0" * 64,
    images: PoseDataset = IMAGES,
    processes: Processes = SINGLE_PROCESS,
    **settings: Any,
) -> Evaluator:
    return Evaluator(measure, images, weights, settings, cache, processes)


def test_scores_are_on_fixed_images_spread_over_the_set() -> None:
    measure = Measure()
    scores = evaluator(measure)(ARCHS[:2], 3)
    assert scores == [Score(3, {"AP": ap(arch, 3), "AR": 0.5}) for arch in ARCHS[:2]]
    assert [ids for _, ids in measure.calls] == [(1, 5, 9)] * 2


@pytest.mark.parametrize("number", [None, 9, 100])
def test_all_images_are_used_unless_fewer_are_asked_for(number: int | None) -> None:
    measure = Measure()
    assert evaluator(measure)(ARCHS[:1], number)[0].num_images == 9
    assert measure.calls[0][1] == tuple(range(1, 10))


def test_a_subset_holds_the_ground_truth_of_its_images_alone() -> None:
    subset = evenly_spread(IMAGES, 3)
    truth, whole = subset.ground_truth(), IMAGES.ground_truth()
    assert [image["id"] for image in truth["images"]] == list(subset.image_ids) == [1, 5, 9]
    assert truth["annotations"] == [person for person in whole["annotations"] if person["image_id"] in (1, 5, 9)]
    assert truth["categories"] == whole["categories"]
    assert len(subset) == 3
    assert subset[1].image_id == 5
    assert (subset[1].image == IMAGES[4].image).all()
    assert subset.keypoints is COCO


def test_each_arch_is_measured_once_for_each_number_of_images(tmp_path: Path) -> None:
    measure = Measure()
    first = evaluator(measure, tmp_path)
    expected = [first(ARCHS, number) for number in (2, 4)]
    assert (first.num_measured, first.num_reused) == (14, 0)
    second = evaluator(measure, tmp_path)
    assert [second(ARCHS, number) for number in (2, 4)] == expected
    assert (second.num_measured, second.num_reused) == (0, 14)
    assert len(measure.calls) == 14


@pytest.mark.parametrize("change", ["weights", "settings", "images"])
def test_a_score_of_other_weights_settings_or_images_is_not_reused(tmp_path: Path, change: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "weights": {"weights": "1" * 64},
        "settings": {"num_calibration_images": 5},
        "images": {"images": SyntheticPeople(COCO, 9, 6, 64, 64)},
    }
    measure = Measure()
    evaluator(measure, tmp_path)(ARCHS[:1])
    evaluator(measure, tmp_path, **options[change])(ARCHS[:1])
    assert len(measure.calls) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_matches_of_images_are_kept_with_the_scores(tmp_path: Path) -> None:
    first = evaluator(Measure(), tmp_path)
    first(ARCHS[:2], 3)
    again = evaluator(Measure(), tmp_path)
    again(ARCHS[1:3], 3)
    assert again.num_reused == 1
    assert [again.matches(arch, 3) for arch in ARCHS[1:3]] == [f"{arch.digest()} 3" for arch in ARCHS[1:3]]
    assert again.matches(ARCHS[1], 4) is None
    # Of a resumed search, which scored them before, or of another worker of the same search.
    assert again.matches(ARCHS[0], 3) == f"{ARCHS[0].digest()} 3"
    assert evaluator(Measure(), tmp_path).matches(ARCHS[0], 3) == f"{ARCHS[0].digest()} 3"
    first(ARCHS[3:4], 3)
    again.read_caches()
    assert again.matches(ARCHS[3], 3) == f"{ARCHS[3].digest()} 3"
    # Lines of earlier releases hold no matches.
    (path,) = tmp_path.iterdir()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({key: row[key] for key in ("arch", "metrics")}) + "\n" for row in rows))
    old = evaluator(Measure(), tmp_path)
    old(ARCHS[:1], 3)
    assert (old.num_reused, old.matches(ARCHS[0], 3)) == (1, None)


def test_a_damaged_cache_costs_only_the_damaged_scores(tmp_path: Path) -> None:
    measure = Measure()
    expected = evaluator(measure, tmp_path)(ARCHS)
    (path,) = tmp_path.iterdir()
    lines = path.read_bytes().split(b"\n")
    lines[1] = b"garbage"
    lines[2] = b'{"arch": {}, "metrics": {"AP": 1}}'
    lines[3] = json.dumps({"arch": ARCHS[3].to_dict(), "metrics": "AP"}).encode()
    lines[4] = json.dumps({"arch": ARCHS[4].to_dict(), "metrics": {"AP": math.nan}}).encode()
    path.write_bytes(b"\n".join(lines)[:-30])
    again = evaluator(measure, tmp_path)
    assert again(ARCHS) == expected
    assert again.num_measured == 5
    last = evaluator(measure, tmp_path)
    assert last(ARCHS) == expected
    assert last.num_measured == 0


def test_without_a_folder_scores_are_kept_in_memory(tmp_path: Path) -> None:
    measure = Measure()
    in_memory = evaluator(measure)
    assert in_memory(ARCHS) == in_memory(ARCHS)
    assert (in_memory.num_measured, in_memory.num_reused) == (7, 7)
    assert list(tmp_path.iterdir()) == []


class ThreadProcesses:
    """Processes that are threads."""

    def __init__(self, index: int, texts: list[str], barrier: threading.Barrier) -> None:
        self.index, self.count = index, len(texts)
        self._texts, self._barrier = texts, barrier

    def texts(self, text: str) -> list[str]:
        self._texts[self.index] = text
        self._barrier.wait(20)
        texts = list(self._texts)
        self._barrier.wait(20)
        return texts


def together(archs: Sequence[Sequence[Arch]], cache: Path | None) -> tuple[list[Measure], list[list[Score]]]:
    """Score one list of archs in each of several processes; all get the matches of all images."""
    texts, barrier = [""] * len(archs), threading.Barrier(len(archs))
    measures = [Measure() for _ in archs]

    def score(index: int) -> list[Score]:
        processes = ThreadProcesses(index, texts, barrier)
        own = evaluator(measures[index], cache, processes=processes)
        scores = own(archs[index], 4)
        assert all(own.matches(arch, 4) == f"{arch.digest()} 4" for arch in archs[index])
        return scores

    with ThreadPoolExecutor(len(archs)) as pool:
        return measures, list(pool.map(score, range(len(archs))))


@pytest.mark.parametrize("count", [2, 3, 9])
def test_processes_share_the_archs_and_all_get_all_scores(tmp_path: Path, count: int) -> None:
    measures, scores = together([ARCHS] * count, tmp_path)
    assert scores == [evaluator(Measure())(ARCHS, 4)] * count
    for index, measure in enumerate(measures):
        assert sorted(digest for digest, _ in measure.calls) == sorted(arch.digest() for arch in ARCHS[index::count])
    alone = evaluator(Measure(), tmp_path)
    assert alone(ARCHS, 4) == scores[0]
    assert alone.num_reused == 7


def test_processes_that_disagree_raise_an_error() -> None:
    with pytest.raises(RuntimeError, match="disagree on which archs"):
        together([ARCHS, ARCHS[::-1]], None)


def test_a_cache_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot create the folder .*file.*; set another cache"):
        ScoreCache(tmp_path / "file" / "scores", "0", "1")


def test_a_file_is_identified_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    # The SHA-256 of no bytes.
    assert file_digest(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")
    with pytest.raises(UserError, match=r"cannot read .*missing"):
        file_digest(tmp_path / "missing")
