"""The C++ header finds the golden people, and in maps the people that the project finds."""

import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from subnet_export.decoding import pose
from supernet.pose.geometry import input_transform, resize_for_network
from supernet.pose.grouping import group, matching_order
from supernet.pose.inference import InferenceSettings
from supernet.pose.multiscale_flip import heatmaps, resize
from tests.helpers.golden_people import GoldenPeople, golden_people, overflown_detections

COMPILER = shutil.which("g++") or shutil.which("clang++")
HEADERS = Path(pose.__file__).parent
Numbers = npt.NDArray[Any]

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


def compiled(source: Path, target: Path) -> Path:
    """Compile a program with all warnings as errors."""
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{HEADERS}"]
    result = subprocess.run([str(COMPILER), *flags, str(source), "-o", str(target)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return target


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program that decodes standard input."""
    return compiled(Path(__file__).with_name("decode_golden.cpp"), tmp_path_factory.mktemp("cpp") / "decode")


def decode(
    program: Path, kind: str, shape: tuple[int, int, int], inference: dict[str, Any], *arrays: Numbers
) -> tuple[Numbers, Numbers]:
    """Return the poses (P, K, 3) and scores (P,) that the program finds."""
    names = ("max_people", "detection_threshold", "tag_threshold", "nms_kernel", "adjust", "refine")
    settings = [*(+inference[name] for name in names), inference["matching"], inference["decoding"]]
    head = " ".join(map(str, [kind, *shape, *settings, *matching_order(shape[0])]))
    body = "\n".join(" ".join(f"{value:.9g}" for value in array.ravel()) for array in arrays)
    result = subprocess.run(
        [str(program)], input=f"{head}\n{body}\n", capture_output=True, text=True, check=True, timeout=120
    )
    people = np.array([line.split() for line in result.stdout.splitlines()], float).reshape(-1, 1 + 3 * shape[0])
    return people[:, 1:].reshape(-1, shape[0], 3), people[:, 0]


@pytest.mark.parametrize("case", golden_people(), ids=lambda case: case.name)
def test_people_are_the_golden_ones(case: GoldenPeople, program: Path) -> None:
    assert case.decoder["keypoint_order"] == list(matching_order(len(case.detections)))
    case.check(*decode(program, "detections", case.detections.shape, case.decoder["inference"], case.detections))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("matching", ["thresholded", "reference"])
def test_detections_that_are_not_finite_count_as_none(matching: str, bad: float, program: Path) -> None:
    inference = {**golden_people()[0].decoder["inference"], "matching": matching}
    for place in (2, 3):  # value and tag
        overflown, rest = overflown_detections(place, bad)
        poses, scores = decode(program, "detections", rest.shape, inference, overflown)
        assert len(poses) == 3
        expected, expected_scores = decode(program, "detections", rest.shape, inference, rest)
        np.testing.assert_array_equal(poses, expected)
        np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.parametrize("decoding", ["published", "unbiased"])
def test_people_in_maps_are_those_of_the_project(decoding: str, program: Path) -> None:
    import torch

    random = np.random.default_rng(1)
    num, width, height = 5, 96, 64
    low = random.normal(0, 0.1, (1, 2 * num, height // 4, width // 4)).astype(np.float32)
    high = random.normal(0, 0.1, (1, num, height // 2, width // 2)).astype(np.float32)
    for person in range(4):
        for keypoint in range(num):
            x, y = random.integers(1, 47), random.integers(1, 31)
            high[0, keypoint, y, x] += 2
            low[0, num + keypoint, y // 2 - 1 : y // 2 + 2, x // 2 - 1 : x // 2 + 2] += person * 0.7
    settings = InferenceSettings(decoding=decoding)  # type: ignore[arg-type]
    maps = torch.from_numpy(low), torch.from_numpy(high)
    heat = heatmaps(maps[0][:, :num], maps[1], (height, width))[0]
    tags = resize(maps[0][:, num:], (height // 2, width // 2), (height, width))[0]
    expected, expected_scores = group(heat, tags, **settings.grouping)
    assert len(expected) > 3
    poses, scores = decode(program, "maps", (num, width, height), asdict(settings), low, high)
    np.testing.assert_allclose(poses, expected, atol=0.01)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


def test_images_are_resized_as_in_the_project(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    sizes = [(53, 37), (37, 53), (640, 480), (480, 640), (100, 100), (1001, 333)]
    frames = "".join(f"show(litepose::input_frame({width}, {height}, 128));" for width, height in sizes)
    source = tmp_path / "resize.cpp"
    source.write_text(
        f"""#include "litepose_decode.hpp"
#include <cstdio>
void show(const litepose::Frame& f) {{ std::printf("%d %d %.9g %.9g %.9g\\n", f.width, f.height, f.scale, f.offset_x,
                                                 f.offset_y); }}
int main() {{
  static const unsigned char image[] = {{{",".join(map(str, image.ravel()))}}};
  {frames}
  for (int value : litepose::resize_image(image, 53, 37, litepose::input_frame(53, 37, 128))) std::printf("%d ", value);
}}
"""
    )
    result = subprocess.run([str(compiled(source, tmp_path / "resize"))], capture_output=True, text=True, check=True)
    *frames_found, pixels = result.stdout.splitlines()
    for (width, height), line in zip(sizes, frames_found, strict=True):
        transform = input_transform(width, height, 128)
        expected = [transform.scale, transform.offset_x, transform.offset_y]
        np.testing.assert_allclose([float(value) for value in line.split()[2:]], expected, rtol=1e-6)
    expected_image = resize_for_network(image, 128)[0]
    assert frames_found[0].split()[:2] == [str(size) for size in expected_image.shape[1::-1]]
    difference = np.array(pixels.split(), int).reshape(expected_image.shape) - expected_image.astype(int)
    assert np.abs(difference).max() <= 1  # OpenCV rounds to fractions of a pixel
