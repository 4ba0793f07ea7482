"""Targets equal those of the published code and of a slow, plain implementation."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from supernet.pose.training.targets import heatmaps, person_sizes, tag_indices
from tests.golden.recipes import people_joints

GOLDEN = np.load(Path(__file__).parents[3] / "golden" / "targets.npz")
CASES = sorted({name.rsplit("_", 1)[0] for name in GOLDEN.files})


def slow_heatmaps(keypoints: npt.NDArray[np.float64], height: int, width: int, sigma: float) -> npt.NDArray[np.float64]:
    """(P, K, 3) -> (K, H, W), pixel by pixel."""
    reach = int(3 * sigma + 1)
    out = np.zeros((keypoints.shape[1], height, width))
    for person in keypoints:
        for k, (x, y, visibility) in enumerate(person):
            column, row = int(x), int(y)
            if visibility == 0 or x <= -1 or y <= -1 or column >= width or row >= height:
                continue
            for r in range(max(0, row - reach), min(height, row + reach + 1)):
                for c in range(max(0, column - reach), min(width, column + reach + 1)):
                    value = np.exp(-((r - row) ** 2 + (c - column) ** 2) / (2 * sigma**2))
                    out[k, r, c] = max(out[k, r, c], value)
    return out


@pytest.mark.parametrize("case", CASES)
def test_targets_are_those_of_the_published_code(case: str) -> None:
    seed, people, num_keypoints, resolution = map(int, case.split("_"))
    keypoints = torch.from_numpy(people_joints(seed, people, num_keypoints, resolution)).float()[None]
    made = heatmaps(keypoints, (resolution, resolution))[0].numpy()
    np.testing.assert_allclose(made, GOLDEN[f"{case}_heatmaps"], atol=1e-6)
    indices, valid = tag_indices(keypoints, (resolution, resolution))
    for person in range(people):
        golden = GOLDEN[f"{case}_joints"][person]
        used = indices[0, person][valid[0, person]].tolist()
        assert set(used) == {place for place, flag in golden.tolist() if flag}


@pytest.mark.parametrize("people", [0, 1, 3, 9, 20])
@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_each_image_of_a_batch_equals_the_slow_implementation(people: int, sigma: float) -> None:
    rng = np.random.default_rng(people)
    keypoints = rng.uniform(-4, 34, (3, people, 5, 3))
    keypoints[..., 2] = rng.integers(0, 3, (3, people, 5))
    made = heatmaps(torch.from_numpy(keypoints), (22, 30), sigma)
    assert made.shape == (3, 5, 22, 30)
    assert made.dtype == torch.float32
    for image_heatmaps, people_of_image in zip(made, keypoints, strict=True):
        np.testing.assert_allclose(image_heatmaps, slow_heatmaps(people_of_image, 22, 30, sigma), atol=1e-6)


def test_padding_people_changes_nothing() -> None:
    keypoints = torch.rand(2, 3, 4, 3) * 20
    keypoints[..., 2] = 2
    padded = torch.cat([keypoints, torch.zeros(2, 5, 4, 3)], dim=1)
    assert torch.equal(heatmaps(keypoints, (20, 20)), heatmaps(padded, (20, 20)))
    indices, valid = tag_indices(padded, (20, 20))
    assert torch.equal(indices[:, :3], tag_indices(keypoints, (20, 20))[0])
    assert not valid[:, 3:].any()


def test_an_index_points_at_the_peak_of_the_keypoints_own_map() -> None:
    keypoints = torch.tensor([[[[3.9, 7.2, 2.0], [0.0, 0.99, 1.0], [18.4, 11.5, 2.0]]]])
    indices, valid = tag_indices(keypoints, (12, 19))
    peaks = heatmaps(keypoints, (12, 19)).flatten(1)[0].nonzero()[:, 0]
    assert valid.all()
    assert set(indices.flatten().tolist()) <= set(peaks.tolist())
    assert torch.equal(heatmaps(keypoints, (12, 19)).flatten(1)[0][indices.flatten()], torch.ones(3))


def test_unlabelled_non_finite_and_outside_keypoints_leave_no_trace() -> None:
    nan, inf = float("nan"), float("inf")
    bad = [[5, 5, 0], [nan, 5, 2], [5, inf, 2], [-1, 5, 2], [5, 20, 2], [1e30, 5, 2], [-1e30, 5, 1]]
    keypoints = torch.tensor(bad, dtype=torch.float32)[None, None]
    indices, valid = tag_indices(keypoints, (20, 20))
    assert not valid.any()
    assert ((indices >= 0) & (indices < 7 * 20 * 20)).all()
    assert not heatmaps(keypoints, (20, 20)).any()


def slow_unbiased(keypoints: npt.NDArray[np.float64], height: int, width: int, sigma: float) -> npt.NDArray[np.float64]:
    """As ``slow_heatmaps``, with each Gaussian around the keypoint itself, at the distances of pixel centres."""
    reach = int(3 * sigma + 1)
    out = np.zeros((keypoints.shape[1], height, width))
    for person in keypoints:
        for k, (x, y, visibility) in enumerate(person):
            if visibility == 0 or not (-1 < x < width and -1 < y < height):
                continue
            for r in range(max(0, int(y) - reach), min(height, int(y) + reach + 1)):
                for c in range(max(0, int(x) - reach), min(width, int(x) + reach + 1)):
                    value = np.exp(-((r + 0.5 - y) ** 2 + (c + 0.5 - x) ** 2) / (2 * sigma**2))
                    out[k, r, c] = max(out[k, r, c], value)
    return out


@pytest.mark.parametrize("people", [0, 1, 9, 20])
@pytest.mark.parametrize("sigma", [1.0, 1.4, 2.0])
def test_unbiased_targets_equal_the_slow_implementation(people: int, sigma: float) -> None:
    rng = np.random.default_rng(people)
    keypoints = rng.uniform(-4, 34, (3, people, 5, 3))
    keypoints[..., 2] = rng.integers(0, 3, (3, people, 5))
    keypoints[1, :, 0, 0] = np.nan
    made = heatmaps(torch.from_numpy(keypoints), (22, 30), sigma, "unbiased")
    assert made.shape == (3, 5, 22, 30)
    assert made.dtype == torch.float32
    for image_heatmaps, people_of_image in zip(made, keypoints, strict=True):
        np.testing.assert_allclose(image_heatmaps, slow_unbiased(people_of_image, 22, 30, sigma), atol=1e-6)


def test_a_keypoint_in_the_centre_of_a_pixel_has_the_published_target_and_a_mirrored_one_the_mirrored_target() -> None:
    centred = torch.tensor([[[[3.5, 7.5, 2.0], [0.5, 0.5, 1.0], [18.5, 11.5, 2.0]]]])
    torch.testing.assert_close(heatmaps(centred, (12, 19), placement="unbiased"), heatmaps(centred, (12, 19)))
    keypoints = torch.rand(2, 3, 4, 3, generator=torch.Generator().manual_seed(0)) * 20
    keypoints[..., 2] = 2
    mirrored = torch.cat([20 - keypoints[..., :1], keypoints[..., 1:]], dim=-1)
    of_mirrored = heatmaps(mirrored, (20, 20), placement="unbiased")
    torch.testing.assert_close(of_mirrored, heatmaps(keypoints, (20, 20), placement="unbiased").flip(3))


def test_unbiased_targets_of_both_outputs_have_their_tops_at_the_same_place() -> None:
    """The logarithm of each is a quadratic, of which three pixels in a row give the top."""
    place = torch.tensor([[[[37.3, 26.9, 2.0]]]])
    for stride in (4, 2):
        (heat,) = heatmaps(place / torch.tensor([stride, stride, 1]), (64 // stride, 64 // stride), 2.0, "unbiased")[0]
        y, x = divmod(int(heat.argmax()), 64 // stride)
        for row, middle, exact in ((heat[y, x - 1 : x + 2], x, 37.3), (heat[y - 1 : y + 2, x], y, 26.9)):
            before, here, after = row.double().log()
            top = middle + 0.5 + (before - after) / (2 * (before - 2 * here + after))
            assert float(top) * stride == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("people", [1, 3, 11])
def test_each_person_can_have_gaussians_of_its_own_deviation(people: int) -> None:
    rng = np.random.default_rng(people)
    keypoints = rng.uniform(0, 24, (2, people, 3, 3))
    keypoints[..., 2] = rng.integers(0, 3, (2, people, 3))
    sigmas = rng.uniform(0.8, 2.0, (2, people))
    made = heatmaps(torch.from_numpy(keypoints), (24, 24), 2.0, "unbiased", torch.from_numpy(sigmas).float())
    expected = np.zeros((2, 3, 24, 24))
    centres = np.arange(24) + 0.5
    for b, p, k in np.ndindex(2, people, 3):
        x, y, visibility = keypoints[b, p, k]
        if visibility:
            inside = [np.abs(np.arange(24) - int(place)) <= 3 * 2 + 1 for place in (y, x)]
            bells = [
                np.exp(-((centres - place) ** 2) / (2 * sigmas[b, p] ** 2)) * near
                for place, near in zip((y, x), inside, strict=True)
            ]
            expected[b, k] = np.maximum(expected[b, k], np.outer(*bells))
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_the_size_of_a_person_is_the_longer_side_of_the_box_around_its_labelled_keypoints() -> None:
    people = torch.zeros(1, 3, 3, 3)
    people[0, 0] = torch.tensor([[10.0, 10, 2], [14, 30, 1], [90, 90, 0]])
    people[0, 1, 2] = torch.tensor([5.0, 5, 2])
    assert person_sizes(people).tolist() == [[20.0, 0.0, 0.0]]
