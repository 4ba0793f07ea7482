"""The image-to-input geometry agrees with the published evaluation and inverts itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supernet.errors import UserError
from supernet.pose.geometry import (
    check_scales,
    input_transform,
    normalise,
    resize_at_scales,
    resize_for_network,
    resized_size,
)

FOLDER = Path(__file__).parents[2] / "golden"
GOLDEN = json.loads((FOLDER / "geometry.json").read_text())
GOLDEN_SCALES = json.loads((FOLDER / "geometry_scales.json").read_text())


@pytest.mark.parametrize("case", GOLDEN)
def test_sizes_and_points_are_those_of_the_published_evaluation(case: dict[str, Any]) -> None:
    width, height, resolution = case["image_width"], case["image_height"], case["input_size"]
    image = np.zeros((height, width, 3), np.uint8)
    resized, transform = resize_for_network(image, resolution)
    assert list(resized_size(width, height, resolution)) == case["resized"] == [resized.shape[1], resized.shape[0]]
    np.testing.assert_allclose(
        transform.to_image(np.array(case["points_in_resized"])), case["points_in_image"], atol=1e-4
    )


@pytest.mark.parametrize("case", GOLDEN_SCALES)
def test_sizes_and_points_of_several_scales_are_those_of_the_published_evaluation(case: dict[str, Any]) -> None:
    """The golden figures come from HigherHRNet's own multi-scale geometry, run for these sizes."""
    width, height, resolution, scales = (case[key] for key in ("image_width", "image_height", "input_size", "scales"))
    image = np.zeros((height, width, 3), np.uint8)
    inputs, transform = resize_at_scales(image, resolution, 64, scales)
    assert [[resized.shape[1], resized.shape[0]] for resized in inputs] == [
        case["resized"][str(scale)] for scale in scales
    ]
    np.testing.assert_allclose(
        transform.to_image(np.array(case["points_in_scale_1"])), case["points_in_image"], atol=1e-4
    )


def test_every_scale_shows_the_same_part_of_the_image() -> None:
    ramp = np.tile(np.arange(320, dtype=np.float64) * 0.75, (240, 1)).astype(np.uint8)
    image = np.stack([ramp] * 3, axis=2)
    inputs, transform = resize_at_scales(image, 128, 64, (0.5, 1.0, 2.0))
    for scale, resized in zip((0.5, 1.0, 2.0), inputs, strict=True):
        height, width = resized.shape[:2]
        centres = np.stack([np.arange(width) + 0.5, np.full(width, height / 2)], axis=1) / scale
        seen = (transform.to_image(centres)[:, 0] - 0.5) * 0.75  # brightness 0.75 i lies at coordinate i + 0.5
        inside = (seen > 2) & (seen < 237)
        np.testing.assert_allclose(resized[height // 2, inside, 0], seen[inside], atol=1.3)  # the ramp has whole steps


@pytest.mark.parametrize(
    ("scales", "resolution", "message"),
    [
        ((0.5, 2.0), None, r"scales must include 1.*got \[0.5, 2\]"),
        ((), None, "scales must include 1"),
        ((1.0, 1.0), None, r"scales must be different .*got \[1, 1\]"),
        ((1.0, 0.0), None, "above 0"),
        ((1.0, float("nan")), None, "above 0"),
        ((1.0, -2.0), None, "above 0"),
        ((1.0, 9.0), None, "at most 8"),
        ((1.0, 0.75), None, "scale 1 with 0.75 .*multiples of 16 px"),
        ((1.0, 0.5), 144, "scale 0.5 of resolution 144 is 72 px.*16"),
    ],
)
def test_scales_that_the_network_cannot_take_are_refused(
    scales: tuple[float, ...], resolution: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_scales(scales, 64, resolution)


def test_scales_that_pass_give_sides_that_the_network_takes() -> None:
    for scales in [(1.0,), (0.5, 1.0, 2.0), (1.0, 1.5), (0.25, 1.0), (0.5, 1.0, 1.5, 2.0)]:
        for resolution in range(128, 513, 16):
            if any((resolution * scale) % 16 for scale in scales):
                continue
            check_scales(scales, 64, resolution)
            for width, height in [(640, 480), (481, 640), (300, 300), (2000, 31)]:
                for side in resized_size(width, height, resolution, 64, min(scales)):
                    assert all((side * scale) % 16 == 0 for scale in scales)


@pytest.mark.parametrize("resolution", [96, 128, 160, 256, 448])
@pytest.mark.parametrize("divisor", [16, 64])
def test_short_side_is_the_resolution_and_long_side_a_multiple_that_holds_the_image(
    resolution: int, divisor: int
) -> None:
    for width, height in [(640, 480), (481, 640), (333, 500), (501, 500), (2000, 31)]:
        resized = resized_size(width, height, resolution, divisor)
        assert min(resized) == resolution
        assert max(resized) % divisor == 0
        assert resized[0] >= resized[1] or width < height
        whole = max(width, height) * resolution // min(width, height)
        assert whole <= max(resized) < whole + divisor


@pytest.mark.parametrize("resolution", [96, 160, 256])
def test_a_square_image_stays_square(resolution: int) -> None:
    assert resized_size(480, 480, resolution) == (resolution, resolution)


def test_points_return_where_they_came_from() -> None:
    transform = input_transform(427, 640, 160)
    points = np.random.default_rng(0).uniform(-50, 700, (20, 2))
    np.testing.assert_allclose(transform.to_input(transform.to_image(points)), points, atol=1e-9)


def test_a_mark_in_the_image_lies_where_the_transform_says() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    image[200:209, 300:309] = 255
    resized, transform = resize_for_network(image, 240)
    rows, columns = np.nonzero(resized[..., 0] > 100)
    np.testing.assert_allclose((columns.mean(), rows.mean()), transform.to_input(np.array([304.0, 204.0])), atol=0.3)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(UserError, match="float64"):
        resize_for_network(np.zeros((4, 4, 3)), 64)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="not list"):
        resize_for_network([[[0, 0, 0]]], 64)  # type: ignore[arg-type]
    for shape in ((129, 2, 3), (2, 129, 3)):
        with pytest.raises(UserError, match="aspect ratio of at most 64"):
            resize_for_network(np.zeros(shape, np.uint8), 64)
    assert resize_for_network(np.zeros((128, 2, 3), np.uint8), 64)[0].shape == (64 * 64, 64, 3)
    with pytest.raises(UserError, match="at least 1"):
        resized_size(640, 0, 64)


def test_normalised_images_have_imagenets_mean_at_zero() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8).to(memory_format=torch.channels_last)
    before = images.clone()
    out = normalise(images)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (before.permute(0, 2, 3, 1).double() / 255 - mean) / std
    torch.testing.assert_close(out.permute(0, 2, 3, 1).double(), expected, atol=1e-5, rtol=0)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)
    assert normalise(images.float()) is not images


def test_a_resized_image_shows_at_each_pixel_what_its_transform_says() -> None:
    # A quarter of the size, so that leaving out OpenCV's half pixels would show as an error of 1.5.
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    resized, transform = resize_for_network(np.stack([ramp, ramp.T, ramp], axis=2), 64)
    centres = np.arange(64) + 0.5
    seen = transform.to_image(np.stack([centres, centres], axis=1)) - 0.5  # brightness i lies at coordinate i + 0.5
    np.testing.assert_allclose(resized[32, :, 0], seen[:, 0], atol=0.51)  # half a grey level of rounding
    np.testing.assert_allclose(resized[:, 32, 1], seen[:, 1], atol=0.51)
