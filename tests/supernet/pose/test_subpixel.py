"""Sub-pixel positions: exact for Gaussians, bounded for perfect maps of a network, and the same in a mirror."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from scripts.benchmarks.ideal_outputs import UNBIASED_BORDER, ideal_outputs, max_error
from supernet.pose.inference import InferenceSettings, PoseEstimator
from supernet.pose.keypoints import COCO
from supernet.pose.subpixel import REACH, fitted_tops

Floats = npt.NDArray[np.float32]
SIZE = 96


def gaussian(
    top: tuple[float, float], size: tuple[int, int], height: float = 1.0, spread: tuple[float, float, float] = (2, 2, 0)
) -> Floats:
    """A Gaussian (H, W) around ``top`` (x, y) at pixel centres; ``spread`` is its deviations and their correlation."""
    deviation_x, deviation_y, correlation = spread
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    u, v = (x - top[0]) / deviation_x, (y - top[1]) / deviation_y
    exponent = (u**2 + v**2 - 2 * correlation * u * v) / (2 * (1 - correlation**2))
    return np.asarray(height * np.exp(-exponent), np.float32)


def decoded(heatmap: Floats) -> npt.NDArray[np.float64]:
    """The position (x, y) of the highest pixel of a map (H, W) with the step from it."""
    y, x = (np.array([place]) for place in np.unravel_index(heatmap.argmax(), heatmap.shape))
    return np.asarray(np.array([x[0] + 0.5, y[0] + 0.5]) + fitted_tops(heatmap[None], np.zeros(1, np.int64), x, y)[0])


@pytest.mark.parametrize("height", [1e-4, 0.15, 1.0, 1e3])
@pytest.mark.parametrize("spread", [(2.8, 2.8, 0.0), (2.4, 5.0, 0.0), (6.0, 6.0, 0.5), (9.0, 4.0, -0.6)])
def test_the_top_of_a_gaussian_of_any_shape_and_height_is_found_exactly(
    spread: tuple[float, float, float], height: float
) -> None:
    """Up to the rounding of float32: at every place in a pixel, in the middle and in all corners of the map."""
    for fraction_x, fraction_y in np.random.default_rng(0).uniform(0, 1, (20, 2)):
        for column, row in ((12, 9), (0, 0), (23, 0), (0, 17), (23, 17), (1, 8), (22, 16)):
            top = (column + fraction_x, row + fraction_y)
            np.testing.assert_allclose(decoded(gaussian(top, (18, 24), height, spread)), top, atol=2e-4)


def test_positions_that_are_no_peaks_move_little_or_not_at_all() -> None:
    """Refining adds keypoints on slopes, in valleys and on plateaus, where a quadratic has no top or a far one."""
    ramp = np.tile(np.linspace(0.1, 1, 20, dtype=np.float32), (20, 1))
    valley = 2 - gaussian((10.3, 9.8), (20, 20))
    far = gaussian((16.0, 10.5), (20, 20), spread=(5, 5, 0))
    maps = np.stack([ramp, valley, np.full_like(ramp, 0.5), far])
    steps = fitted_tops(maps, np.arange(4), np.full(4, 10), np.full(4, 10))
    assert not steps[:3].any()
    assert steps[3] == pytest.approx([REACH, 0], abs=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 3), (4, 4)])
def test_maps_smaller_than_the_fit_give_steps_within_reach(size: tuple[int, int]) -> None:
    heat = np.random.default_rng(0).uniform(0.01, 1, (30, *size)).astype(np.float32)
    y, x = np.divmod(heat.reshape(30, -1).argmax(axis=1), size[1])
    assert (np.abs(fitted_tops(heat, np.arange(30), x, y)) <= REACH).all()


def test_zeros_and_negative_values_around_a_peak_are_allowed() -> None:
    heat = np.full((1, 9, 9), -0.3, np.float32)
    heat[0, 4, 4], heat[0, 4, 5] = 0.9, 0.6
    ((step_x, step_y),) = fitted_tops(heat, np.zeros(1, np.int64), np.array([4]), np.array([4]))
    assert 0 < step_x < 1
    assert step_y == pytest.approx(0, abs=1e-6)


def people_everywhere(rng: np.random.Generator) -> Floats:
    """One person (1, 17, 3) whose keypoints are anywhere in the input but not at its border."""
    people = np.full((1, COCO.num, 3), 2, np.float32)
    people[..., :2] = rng.uniform(UNBIASED_BORDER, SIZE - UNBIASED_BORDER, (1, COCO.num, 2))
    return people


def predicted(outputs: tuple[Tensor, Tensor], mirrored: tuple[Tensor, Tensor] | None = None) -> Floats:
    """The pose (17, 3) in an input of SIZE, from outputs, and those for the mirrored input if it runs, too."""
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[:, : SIZE // 2] = 255

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        is_mirrored = bool(images[0, 0, 0, 0] < images[0, 0, 0, -1])
        assert not is_mirrored or mirrored is not None
        return mirrored if is_mirrored and mirrored is not None else outputs

    settings = InferenceSettings(flip_test=mirrored is not None, decoding="unbiased")
    (people,) = PoseEstimator(network, SIZE, COCO, settings)([image])
    assert len(people.poses) == 1
    return np.asarray(people.poses[0])


@pytest.mark.parametrize("sigma", [1.0, 1.4, 2.0, 3.0])
@pytest.mark.parametrize("flip_test", [False, True])
def test_perfect_outputs_are_decoded_within_the_stated_error(sigma: float, flip_test: bool) -> None:
    """The bound is 1 / (8 sigma^2) input pixels in x and in y, where published maps are up to 1.25 px off."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        people = people_everywhere(rng)
        mirrored = people[:, list(COCO.flip_index)]
        mirrored[..., 0] = SIZE - mirrored[..., 0]
        outputs = [ideal_outputs(copy, (SIZE, SIZE), sigma, "unbiased") for copy in (people, mirrored)]
        pose = predicted(outputs[0], outputs[1] if flip_test else None)
        assert np.abs(pose[:, :2] - people[0, :, :2]).max() <= max_error(sigma, "unbiased") == 1 / (8 * sigma**2)


def test_a_mirrored_image_gives_the_mirrored_pose() -> None:
    """Of noisy maps, too, as nothing in decoding prefers a side; ties aside, which noise has none of."""
    rng = np.random.default_rng(1)
    generator = torch.Generator().manual_seed(1)
    swap = list(COCO.flip_index)
    for _ in range(10):
        low, high = ideal_outputs(people_everywhere(rng), (SIZE, SIZE), 2.0, "unbiased")
        low[:, : COCO.num] += 0.05 * torch.rand(low[:, : COCO.num].shape, generator=generator)
        high += 0.05 * torch.rand(high.shape, generator=generator)
        low_of_mirror = torch.cat([part.flip(3)[:, swap] for part in (low[:, : COCO.num], low[:, COCO.num :])], dim=1)
        of_mirror = low_of_mirror, high.flip(3)[:, swap]
        pose, mirrored = (predicted(outputs) for outputs in ((low, high), of_mirror))
        np.testing.assert_allclose(SIZE - mirrored[swap, 0], pose[:, 0], atol=1e-3)
        np.testing.assert_allclose(mirrored[swap, 1:], pose[:, 1:], atol=1e-3)
