"""Losses equal the published code's values and their formulas."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supernet.pose.training.losses import heatmap_loss, pixel_weights, tag_loss
from supernet.pose.training.targets import heatmaps, tag_indices
from tests.golden.recipes import people_joints

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "losses.json").read_text())


@pytest.mark.parametrize("case", GOLDEN)
def test_losses_are_those_of_the_published_code(case: dict[str, Any]) -> None:
    batch, num_keypoints, resolution = case["batch"], case["joints"], case["resolution"]
    size = (resolution, resolution)
    people = [people_joints(case["seed"] * 100 + b, case["people"], num_keypoints, resolution) for b in range(batch)]
    keypoints = torch.from_numpy(np.stack(people)).float()
    rng = np.random.RandomState(case["seed"])
    target = heatmaps(keypoints, size)
    predicted = target.double() + 0.1 * torch.from_numpy(rng.standard_normal(tuple(target.shape)))
    tags = torch.from_numpy(rng.standard_normal((batch, num_keypoints * resolution**2, 1)))
    mask = torch.from_numpy(rng.random_sample((batch, *size)) < 0.9)

    np.testing.assert_allclose(heatmap_loss(predicted, target, mask[:, None]), case["heatmap_loss"], rtol=1e-5)
    push, pull = tag_loss(tags.view(batch, num_keypoints, *size), *tag_indices(keypoints, size))
    np.testing.assert_allclose((push, pull), (case["push"], case["pull"]), rtol=1e-5)


def test_tag_loss_equals_its_formula_person_by_person() -> None:
    rng = np.random.default_rng(0)
    tags = rng.normal(size=(6, 3, 4, 5))
    indices = rng.integers(0, 60, (6, 5, 3))
    valid = rng.random((6, 5, 3)) < 0.5
    valid[0] = False
    valid[1, 1:] = False
    pushes, pulls = [], []
    for b in range(6):
        groups = [tags[b].ravel()[i[v]] for i, v in zip(indices[b], valid[b], strict=True) if v.any()]
        means = [g.mean() for g in groups]
        closeness = [np.exp(-((m - n) ** 2)) for i, m in enumerate(means) for j, n in enumerate(means) if i != j]
        pushes.append(0.5 * np.mean(closeness) if closeness else 0.0)
        pulls.append(np.mean([g.var() for g in groups]) if groups else 0.0)
    push, pull = tag_loss(torch.from_numpy(tags), torch.from_numpy(indices), torch.from_numpy(valid))
    np.testing.assert_allclose((push, pull), (np.mean(pushes), np.mean(pulls)), rtol=1e-5)


@pytest.mark.parametrize("people", [0, 2])
def test_without_people_the_tag_loss_and_its_gradient_are_zero(people: int) -> None:
    tags = torch.full((2, 3, 4, 4), 1e4, requires_grad=True)
    indices = torch.zeros(2, people, 3, dtype=torch.int64)
    push, pull = tag_loss(tags, indices, torch.zeros(2, people, 3, dtype=torch.bool))
    assert push.item() == pull.item() == 0.0
    (gradient,) = torch.autograd.grad(push + pull, tags)
    assert not gradient.any()


def test_an_infinite_tag_without_a_keypoint_does_not_affect_the_gradient() -> None:
    tags = torch.zeros(1, 1, 2, 2)
    tags[0, 0, 1, 1] = torch.inf
    tags.requires_grad_()
    indices = torch.tensor([[[0], [3]]])
    push, pull = tag_loss(tags, indices, torch.tensor([[[True], [False]]]))
    (gradient,) = torch.autograd.grad(push + pull, tags)
    assert push.item() == pull.item() == 0.0
    assert torch.isfinite(gradient).all()


def test_half_precision_outputs_are_summed_in_single_precision() -> None:
    predicted = torch.full((1, 17, 64, 64), 0.1, dtype=torch.bfloat16)
    loss = heatmap_loss(predicted, torch.zeros(1, 17, 64, 64), torch.ones(1, 1, 64, 64, dtype=torch.bool))
    assert loss.dtype == torch.float32
    np.testing.assert_allclose(loss, predicted[0, 0, 0, 0].float() ** 2, rtol=1e-5)
    push, pull = tag_loss(
        torch.full((1, 2, 4, 4), 3.0, dtype=torch.float16),
        torch.tensor([[[0, 16], [1, 17]]]),
        torch.ones(1, 2, 2, dtype=torch.bool),
    )
    assert push.dtype == pull.dtype == torch.float32
    np.testing.assert_allclose((push, pull), (0.5, 0.0))


def test_the_gradient_reaches_the_student_only() -> None:
    student, teacher = (torch.rand(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    loss = heatmap_loss(student, teacher, torch.ones(2, 1, 4, 4, dtype=torch.bool))
    of_student, of_teacher = torch.autograd.grad(loss.sum(), [student, teacher], allow_unused=True)
    assert of_student.any()
    assert of_teacher is None


def test_pixels_weigh_more_the_nearer_they_are_to_a_keypoint_and_nothing_where_masked() -> None:
    target = torch.tensor([[[[0.0, 0.5], [1.0, 1.0]], [[0.0, 0.0], [0.25, 1.0]]]])
    mask = torch.tensor([[[True, True], [True, False]]])
    weights = pixel_weights(target, mask, 8.0)
    assert torch.equal(weights, torch.tensor([[[[1.0, 5.0], [9.0, 0.0]], [[1.0, 1.0], [3.0, 0.0]]]]))
    loss = heatmap_loss(target - 1.0, target, weights)  # every error is 1
    torch.testing.assert_close(loss, weights.mean(dim=(1, 2, 3)))
    uniform = pixel_weights(target, mask, 0.0)
    assert torch.equal(uniform.float().expand_as(target), mask[:, None].float().expand_as(target))
