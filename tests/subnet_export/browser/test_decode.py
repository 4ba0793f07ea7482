"""The decoder in JavaScript finds the people that the Python decoder finds, and takes images as Python does."""

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scripts.benchmarks.ideal_outputs import ideal_outputs
from supernet.pose.geometry import resize_for_network
from supernet.pose.grouping import group, matching_order
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import COCO, CROWDPOSE
from supernet.pose.multiscale_flip import heatmaps, resize
from supernet.pose.synthetic.dataset import SyntheticPeople
from tests.helpers.golden_people import golden_people, overflown_detections

PAGE = Path(__file__).parents[3] / "subnet_export" / "browser" / "page"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="there is no Node.js here (the program node)")

Floats = npt.NDArray[np.float32]
Pair = tuple[Floats, Floats]
People = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def settings(num_keypoints: int, **changes: Any) -> dict[str, Any]:
    """Return the content of ``settings.json`` that the modules read."""
    inference = InferenceSettings(**changes)
    return {
        "keypoint_order": list(matching_order(num_keypoints)),
        "input": {"short_side": 96, "long_side_multiple_of": inference.size_divisor},
        "inference": asdict(inference),
    }


def run(folder: Path, cases: list[dict[str, Any]]) -> list[Any]:
    """Return the results of the modules for ``cases``; see ``decode_cases.mjs``."""
    (folder / "cases.json").write_text(json.dumps(cases))
    command = [str(NODE), str(Path(__file__).with_name("decode_cases.mjs")), str(PAGE), str(folder / "cases.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def stored(path: Path, values: Floats) -> dict[str, Any]:
    """Write numbers for ``decode_cases.mjs``."""
    path.write_bytes(np.ascontiguousarray(values, np.float32).tobytes())
    return {"file": str(path), "dims": list(values.shape)}


def decoded(folder: Path, outputs: list[tuple[Pair, dict[str, Any]]]) -> list[People]:
    """Return what the JavaScript decoder makes of the outputs ``low`` and ``high`` of each image."""
    cases = []
    for number, ((low, high), options) in enumerate(outputs):
        files = {"low": stored(folder / f"{number}.low", low), "high": stored(folder / f"{number}.high", high)}
        cases.append({"outputs": files, "settings": settings(high.shape[1], **options)})
    return [as_arrays(people, case["settings"]) for people, case in zip(run(folder, cases), cases, strict=True)]


def as_arrays(people: list[dict[str, Any]], options: dict[str, Any]) -> People:
    """Return poses (P, K, 3) and scores (P,)."""
    poses = np.array([person["keypoints"] for person in people], np.float64)
    shape = (len(people), len(options["keypoint_order"]), 3)
    return poses.reshape(shape), np.array([person["score"] for person in people])


def expected(low: Floats, high: Floats, options: dict[str, Any]) -> Pair:
    """Return what the Python decoder makes of the outputs of one image."""
    num, size = high.shape[1], (2 * high.shape[2], 2 * high.shape[3])
    heat = heatmaps(torch.from_numpy(low[:, :num]), torch.from_numpy(high), size)[0]
    tags = resize(torch.from_numpy(low[:, num:]), (high.shape[2], high.shape[3]), size)[0]
    return group(heat, tags, **InferenceSettings(**options).grouping)


def drawn_people(keypoints: Any, seed: int, noise: float, tag_noise: float) -> Pair:
    """Return the outputs (1, 2K, h, w) and (1, K, 2h, 2w) of a good network for drawn people, with noise."""
    random = np.random.RandomState(seed)
    people = SyntheticPeople(keypoints, 4, seed, 256, 192)[seed % 4].people
    low, high = (maps.numpy() for maps in ideal_outputs(people, (192, 256)))
    low = low + random.normal(0, noise, low.shape)
    low[:, keypoints.num :] = low[:, keypoints.num :] * random.uniform(0.1, 1) + random.normal(
        0, tag_noise, low[:, keypoints.num :].shape
    )
    return low.astype(np.float32), (high + random.normal(0, noise, high.shape)).astype(np.float32)


def noise_maps(num_keypoints: int, seed: int, spread: float, step: float) -> Pair:
    """Return outputs of noise, smooth enough for a few dozen peaks, rounded to multiples of ``step`` (0: not)."""
    random = np.random.RandomState(seed)
    low = random.normal(0, 0.12, (1, 2 * num_keypoints, 16, 20))
    low[:, num_keypoints:] = random.normal(0, spread, (1, num_keypoints, 16, 20))
    high = random.normal(0, 0.12, (1, num_keypoints, 32, 40))
    rounded = [(np.rint(maps / step) * step if step else maps).astype(np.float32) for maps in (low, high)]
    return rounded[0], rounded[1]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"decoding": "unbiased"},
    {"matching": "reference", "decoding": "unbiased"},
    {"matching": "reference", "tag_threshold": 2.5},
    {"refine": False, "max_people": 3},
    {"adjust": False, "nms_kernel": 1},
    {"nms_kernel": 9, "detection_threshold": 0.02, "max_people": 12},
    {"detection_threshold": 0.35},
]


def check(outputs: list[tuple[Pair, dict[str, Any]]], results: list[People], tolerance: float = 1e-3) -> int:
    """Compare people with those of the Python decoder, in the same order; returns how many keypoints there are."""
    num_found = 0
    for ((low, high), options), (poses, scores) in zip(outputs, results, strict=True):
        expected_poses, expected_scores = expected(low, high, options)
        assert poses.shape == expected_poses.shape, options
        np.testing.assert_allclose(poses, expected_poses, atol=tolerance, rtol=0, err_msg=str(options))
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5, rtol=0)
        num_found += int((expected_poses[..., 2] > 0).sum())
    return num_found


def test_drawn_people_are_those_of_the_python_decoder(tmp_path: Path) -> None:
    outputs = [
        (drawn_people(keypoints, seed, noise, tag_noise), options)
        for seed, options in enumerate(OPTIONS)
        for keypoints, noise, tag_noise in ((COCO, 0.002, 0.01), (CROWDPOSE, 0.03, 0.2))
    ]
    assert check(outputs, decoded(tmp_path, outputs)) > 500


@pytest.mark.parametrize("step", [0.0, 0.125])
def test_the_people_of_noise_are_those_of_the_python_decoder(step: float, tmp_path: Path) -> None:
    """Many detections have equal costs, and with a step there are equal pixels: every tie is decided as there."""
    outputs = [
        (noise_maps(num_keypoints, seed, spread, step), options)
        for seed, options in enumerate(OPTIONS)
        for num_keypoints, spread in ((14, 0.3), (20, 1.5))
    ]
    assert check(outputs, decoded(tmp_path, outputs)) > 2000


def test_detections_become_the_golden_people(tmp_path: Path) -> None:
    golden = golden_people()
    cases = [
        {"outputs": {"detections": stored(tmp_path / str(number), one.detections[None])}, "settings": one.decoder}
        for number, one in enumerate(golden)
    ]
    for one, people in zip(golden, run(tmp_path, cases), strict=True):
        one.check(*as_arrays(people, one.decoder))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("matching", ["thresholded", "reference"])
def test_detections_that_are_not_finite_count_as_none(matching: str, bad: float, tmp_path: Path) -> None:
    options = settings(3, matching=matching)
    for place in (2, 3):  # value and tag
        cases = [
            {"outputs": {"detections": stored(tmp_path / str(number), entries[None])}, "settings": options}
            for number, entries in enumerate(overflown_detections(place, bad))
        ]
        found, expected = run(tmp_path, cases)
        assert found == expected
        assert len(found) == 3


def test_an_empty_image_has_no_people(tmp_path: Path) -> None:
    low, high = np.zeros((1, 34, 8, 8), np.float32), np.zeros((1, 17, 16, 16), np.float32)
    assert decoded(tmp_path, [((low, high), {})])[0][0].shape == (0, 17, 3)


def test_outputs_of_another_network_are_refused(tmp_path: Path) -> None:
    low, high = np.zeros((1, 34, 8, 8), np.float32), np.zeros((1, 14, 16, 16), np.float32)
    with pytest.raises(AssertionError, match=r"34.*14.*do not fit 14 keypoints"):
        decoded(tmp_path, [((low, high), {})])


@pytest.mark.parametrize(
    ("width", "height"), [(96, 96), (200, 131), (75, 301), (640, 480), (160, 120), (97, 98), (50, 40)]
)
def test_images_are_resized_as_in_python(width: int, height: int, tmp_path: Path) -> None:
    image = np.random.RandomState(width).randint(0, 256, (height, width, 3)).astype(np.uint8)
    with_alpha = np.concatenate([image, np.full((height, width, 1), 255, np.uint8)], axis=2)
    (tmp_path / "image").write_bytes(with_alpha.tobytes())
    points = [[0.0, 0.0, 0.5], [12.5, 90.25, 1.0], [0.0, 0.0, 0.0]]
    case = {
        "image": {"file": str(tmp_path / "image"), "width": width, "height": height},
        "people": [{"score": 0.5, "keypoints": points}],
        "settings": settings(3),
    }
    (result,) = run(tmp_path, [case])
    resized, transform = resize_for_network(image, 96)
    assert (result["height"], result["width"]) == resized.shape[:2]
    difference = np.abs(np.array(result["pixels"]).reshape(resized.shape) - resized.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.003
    moved = np.array(result["people"][0]["keypoints"])
    np.testing.assert_allclose(moved[:2, :2], transform.to_image(np.array(points)[:2, :2]), atol=1e-9)
    assert moved[2].tolist() == [0.0, 0.0, 0.0]
