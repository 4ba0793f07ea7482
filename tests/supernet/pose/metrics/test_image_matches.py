"""AP from matches image by image: equal to pycocotools on all images and on any draw of them."""

import base64
import zlib
from typing import Any

import numpy as np
import pytest

from supernet.errors import UserError
from supernet.pose.keypoints import COCO
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.pose.metrics.image_matches import ImageMatches, interval, resamples

Record = dict[str, Any]


def scene(seed: int, num_images: int = 12) -> tuple[Record, list[Record]]:
    """Return ground truth and detections, near people and elsewhere, with crowds and images without anyone."""
    rng = np.random.default_rng(seed)
    images: list[Record] = []
    annotations: list[Record] = []
    results: list[Record] = []
    for image in range(1, num_images + 1):
        images.append({"id": image, "width": 640, "height": 480})
        for _ in range(rng.integers(0, 4)):
            points = np.column_stack([rng.uniform(0, 200, (17, 2)), np.full(17, 2)])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "keypoints": points.reshape(-1).tolist(),
                    "num_keypoints": 17,
                    "iscrowd": int(rng.random() < 0.15),
                    "bbox": [0, 0, 200, 200],
                    "area": 20000.0,
                }
            )
            for _ in range(rng.integers(0, 3)):
                near = points + np.array([1, 1, 0]) * rng.normal(0, rng.choice([2, 8, 16, 60]), (17, 3))
                results.append(_result(image, near, rng))
        if rng.random() < 0.4:
            results.append(_result(image, np.column_stack([rng.uniform(0, 400, (17, 2)), np.ones(17)]), rng))
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    return truth, results


def _result(image: int, points: Any, rng: np.random.Generator) -> Record:
    return {
        "image_id": image,
        "category_id": 1,
        "keypoints": points.reshape(-1).tolist(),
        "score": float(np.float32(rng.random())),
    }


def matches_of(truth: Record, results: list[Record]) -> tuple[float, ImageMatches]:
    evaluator = KeypointEvaluator(truth, COCO)
    ap = evaluator.score(results, allow_empty=True)["AP"]
    assert evaluator.matches is not None
    return ap, evaluator.matches


def drawn(truth: Record, results: list[Record], counts: Any) -> tuple[Record, list[Record]]:
    """Return a data set that holds each image as often as it was drawn."""
    images: list[Record] = []
    annotations: list[Record] = []
    detections: list[Record] = []
    for image, count in zip(truth["images"], counts, strict=True):
        for _ in range(count):
            number = len(images) + 1
            images.append({**image, "id": number})
            for person in (person for person in truth["annotations"] if person["image_id"] == image["id"]):
                annotations.append({**person, "id": len(annotations) + 1, "image_id": number})
            detections += [{**r, "image_id": number} for r in results if r["image_id"] == image["id"]]
    return {**truth, "images": images, "annotations": annotations}, detections


@pytest.mark.parametrize("seed", range(6))
def test_ap_is_that_of_pycocotools_on_all_images_and_on_draws(seed: int) -> None:
    truth, results = scene(seed)
    ap, matches = matches_of(truth, results)
    assert 0 < ap < 1
    assert matches.average_precision(np.ones((1, 12), np.int64)) == pytest.approx([ap], abs=1e-12)
    counts = resamples(12, np.random.default_rng(seed), 8)
    assert (counts.sum(1) == 12).all()
    expected = [matches_of(*drawn(truth, results, row))[0] for row in counts]
    assert matches.average_precision(counts) == pytest.approx(expected, abs=1e-12)


def test_text_holds_everything() -> None:
    _, matches = matches_of(*scene(7))
    read = ImageMatches.from_text(matches.to_text())
    for name in ("num_people", "image", "matched", "ignored"):
        assert np.array_equal(getattr(read, name), getattr(matches, name))
    text = matches.to_text()
    assert len(text) < 400
    other = base64.b64encode(zlib.compress(np.array([1, 1, 0, 7, 1, 0], "<u4").tobytes())).decode()
    for damaged in (text[:-8], "no base64", "", text[4:], base64.b64encode(b"bytes").decode(), other):
        with pytest.raises(UserError, match="damaged"):
            ImageMatches.from_text(damaged)


def test_without_detections_ap_is_zero_and_without_people_it_is_unknown() -> None:
    truth, results = scene(3)
    _, matches = matches_of(truth, [])
    assert matches.average_precision(np.ones((2, 12), np.int64)).tolist() == [0, 0]
    _, matches = matches_of(truth, results)
    empty = (matches.num_people == 0).astype(np.int64)[None]
    assert empty.any()
    assert np.isnan(matches.average_precision(empty)).all()


def test_many_draws_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    _, matches = matches_of(*scene(1))
    counts = resamples(12, np.random.default_rng(0), 50)
    whole = matches.average_precision(counts)
    monkeypatch.setattr("supernet.pose.metrics.image_matches._MOST_ELEMENTS", 1)
    assert np.array_equal(matches.average_precision(counts), whole)


def test_an_interval_holds_the_middle_of_the_values() -> None:
    values = np.append(np.arange(101.0), np.nan)
    assert interval(values) == pytest.approx((5.0, 95.0))
    assert interval(values, 0.5) == pytest.approx((25.0, 75.0))
    assert interval(np.array([1.0])) is None


def test_the_interval_covers_the_ap_of_all_images_about_as_often_as_it_says() -> None:
    truth, results = scene(11, 400)
    ap, matches = matches_of(truth, results)
    rng, num, hits = np.random.default_rng(0), 80, 60
    covered = 0
    for _ in range(hits):
        sample = np.bincount(rng.integers(400, size=num), minlength=400)
        # Resampling the sample draws from its images, as often as they are in it.
        chosen = np.repeat(np.arange(400), sample)
        counts = np.stack([np.bincount(rng.choice(chosen, num), minlength=400) for _ in range(100)])
        ends = interval(matches.average_precision(counts))
        assert ends is not None
        covered += ends[0] <= ap <= ends[1]
    assert 0.8 <= covered / hits <= 0.98
