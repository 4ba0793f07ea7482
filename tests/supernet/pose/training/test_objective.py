"""The objective passes the right maps, masks, indices and weights to targets and losses."""

import pytest
import torch

from supernet.pose.training.augmentation import Batch
from supernet.pose.training.losses import heatmap_loss, tag_loss
from supernet.pose.training.objective import SMALLEST_SIGMA, PoseObjective, to_device
from supernet.pose.training.targets import heatmaps
from supernet.space import SearchSpace

NUM = 3
SIDE = 64


def batch() -> Batch:
    """Two images of 64 x 64: two people, and one with a keypoint that is not annotated; a masked corner each."""
    people = torch.zeros(2, 2, NUM, 3)
    people[0, 0] = torch.tensor([[10.0, 30.5, 2], [20.0, 50.0, 1], [61.0, 5.0, 2]])
    people[0, 1] = torch.tensor([[40.0, 12.0, 2], [33.0, 8.0, 2], [50.0, 60.0, 2]])
    people[1, 0] = torch.tensor([[7.0, 40.0, 2], [0.0, 0.0, 0], [30.0, 22.0, 2]])
    mask = torch.ones(2, SIDE // 2, SIDE // 2, dtype=torch.bool)
    mask[0, :10, :20] = False
    mask[1, 24:, 28:] = False
    return Batch(torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8), people, mask, torch.tensor([1, 2]))


def outputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(2, 2 * NUM, SIDE // 4, SIDE // 4, generator=generator)
    return low, torch.randn(2, NUM, SIDE // 2, SIDE // 2, generator=generator)


def test_targets_peak_at_their_keypoints_on_both_outputs_and_in_the_tags() -> None:
    annotated, truth = batch(), PoseObjective(NUM).targets(batch())
    for maps, stride in ((truth.low, 4), (truth.high, 2)):
        assert maps.shape == (2, NUM, SIDE // stride, SIDE // stride)
        for b, p, k in annotated.people[..., 2].nonzero().tolist():
            x, y, _ = annotated.people[b, p, k].tolist()
            assert maps[b, k, int(y / stride), int(x / stride)] == 1
        assert maps.sum() == pytest.approx(float(heatmaps(scaled(annotated.people, stride), maps.shape[2:]).sum()))
    assert torch.equal(truth.tag_valid, annotated.people[..., 2] > 0)
    x, y = (annotated.people[..., 0] / 4).long(), (annotated.people[..., 1] / 4).long()
    expected = (torch.arange(NUM) * 16 + y) * 16 + x
    assert torch.equal(truth.tag_indices[truth.tag_valid], expected[truth.tag_valid])


@pytest.mark.parametrize("num_keypoints", [14, 17])
@pytest.mark.parametrize("space", ["nano", "litepose"])
def test_tag_indices_hit_their_own_channel_and_pixel_at_every_resolution(space: str, num_keypoints: int) -> None:
    # In the published code, indices of one size are rescaled by a constant and hit other keypoints' channels.
    for resolution in SearchSpace.load(space).resolutions:
        generator = torch.Generator().manual_seed(resolution)
        people = torch.rand(3, 9, num_keypoints, 3, generator=generator) * resolution
        people[..., 2] = 2
        images = torch.zeros(3, 3, resolution, resolution, dtype=torch.uint8)
        mask = torch.ones(3, resolution // 2, resolution // 2, dtype=torch.bool)
        truth = PoseObjective(num_keypoints).targets(Batch(images, people, mask, torch.arange(3)))
        side = resolution // 4
        # The address (channel, y, x) of each element of the flattened tags.
        addresses = torch.cartesian_prod(torch.arange(num_keypoints), torch.arange(side), torch.arange(side))
        channel, y, x = addresses[truth.tag_indices].unbind(-1)
        assert truth.tag_valid.all()
        assert torch.equal(channel, torch.arange(num_keypoints).expand_as(channel))
        assert torch.equal(x, (people[..., 0] / 4).floor().long())
        assert torch.equal(y, (people[..., 1] / 4).floor().long())


@pytest.mark.gpu
def test_targets_of_a_gpu_are_those_of_the_cpu() -> None:
    annotated, objective = batch(), PoseObjective(NUM)
    on_cpu, on_gpu = objective.targets(annotated), objective.targets(to_device(annotated, torch.device("cuda")))
    for name in ("low", "high", "low_weights", "high_weights", "tag_indices", "tag_valid"):
        made = getattr(on_gpu, name)
        assert made.device.type == "cuda"
        torch.testing.assert_close(made.cpu(), getattr(on_cpu, name))


@pytest.mark.parametrize("without_people", [(), (1,), (0, 1)])
def test_terms_stay_finite_in_half_precision_and_in_images_without_people(without_people: tuple[int, ...]) -> None:
    annotated, objective = batch(), PoseObjective(NUM)
    annotated.people[list(without_people)] = 0
    truth = objective.targets(annotated)
    weight = torch.ones(NUM, NUM, 1, 1, requires_grad=True)
    low, high = (maps.bfloat16().requires_grad_() for maps in outputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        # A convolution under autocast gives bfloat16, as a network's last layer does.
        fine = torch.nn.functional.conv2d(high, weight)
        terms = objective.loss(low, fine, truth)
        distance = objective.distillation(low, fine, (low.detach() + 1, fine.detach() + 1), truth)
    assert fine.dtype == torch.bfloat16
    exact = objective.loss(low.detach().float(), fine.detach().float(), truth)
    for name in ("total", "heatmap", "push", "pull"):
        assert getattr(terms, name).dtype == torch.float32
        torch.testing.assert_close(getattr(terms, name), getattr(exact, name))
    assert (terms.pull > 0) == (len(without_people) < 2)
    assert (terms.push > 0) == (0 not in without_people)
    for gradient in torch.autograd.grad(terms.total + distance, [low, high, weight]):
        assert torch.isfinite(gradient).all()


def scaled(people: torch.Tensor, stride: int) -> torch.Tensor:
    """People (B, P, K, 3) in pixels of a map that is ``stride`` times smaller than the input."""
    return torch.cat([people[..., :2] / stride, people[..., 2:]], dim=-1)


def test_masked_pixels_do_not_affect_either_loss() -> None:
    objective, annotated = PoseObjective(NUM), batch()
    truth, (low, high) = objective.targets(annotated), outputs()
    before, teacher = objective.loss(low, high, truth), tuple(maps + 1 for maps in outputs())
    distance = objective.distillation(low, high, (teacher[0], teacher[1]), truth)
    low[0, :NUM, :5, :10] += 7
    low[1, :NUM, 12:, 14:] += 7
    high[0, :, :10, :20] += 7
    high[1, :, 24:, 28:] += 7
    assert torch.equal(objective.loss(low, high, truth).heatmap, before.heatmap)
    assert torch.equal(objective.distillation(low, high, (teacher[0], teacher[1]), truth), distance)
    for maps, row, column in ((low, 5, 10), (high, 10, 20)):
        changed = maps.clone()
        changed[0, 0, row, column] += 7
        loss = objective.loss(*((changed, high) if maps is low else (low, changed)), truth).heatmap
        assert loss > before.heatmap


def test_terms_are_the_losses_of_their_maps_and_the_total_weighs_them() -> None:
    objective = PoseObjective(NUM, push_weight=0.5, pull_weight=0.03)
    truth, (low, high) = objective.targets(batch()), outputs()
    terms = objective.loss(low, high, truth)
    coarse = heatmap_loss(low[:, :NUM], truth.low, truth.low_weights)
    fine = heatmap_loss(high, truth.high, truth.high_weights)
    push, pull = tag_loss(low[:, NUM:], truth.tag_indices, truth.tag_valid)
    torch.testing.assert_close(terms.heatmap, (coarse.mean() + fine.mean()))
    assert (terms.push, terms.pull) == (push, pull)
    assert push != pull
    torch.testing.assert_close(terms.total, terms.heatmap + 0.5 * push + 0.03 * pull)


def test_distillation_compares_the_heatmaps_of_both_outputs_but_not_tags() -> None:
    objective = PoseObjective(NUM)
    truth, (low, high) = objective.targets(batch()), outputs()
    other_tags = low.clone()
    other_tags[:, NUM:] += 5
    assert objective.distillation(low, high, (other_tags, high), truth) == 0
    for teacher in ((low + 1, high), (low, high + 1)):
        share = truth.low_weights if teacher[1] is high else truth.high_weights
        torch.testing.assert_close(objective.distillation(low, high, teacher, truth), share.float().mean())


def test_unbiased_targets_are_those_of_each_output_and_tags_stay_at_the_keypoints_pixels() -> None:
    truth, published = PoseObjective(NUM, placement="unbiased").targets(batch()), PoseObjective(NUM).targets(batch())
    for maps, stride in ((truth.low, 4), (truth.high, 2)):
        side = SIDE // stride
        assert torch.equal(maps, heatmaps(scaled(batch().people, stride), (side, side), 2.0, "unbiased"))
    assert torch.equal(truth.tag_indices, published.tag_indices)
    assert not torch.equal(truth.low, published.low)


def test_gaussians_that_follow_a_persons_size_stay_within_their_limits() -> None:
    """The area under an isolated Gaussian is 2 pi sigma^2."""
    people = torch.zeros(3, 1, NUM, 3)
    for image, size in enumerate((4.0, 60.0, 200.0)):  # px of the input
        people[image, 0, :2] = torch.tensor([[100.0, 100.0, 2.0], [100.0, 100.0 + size, 2.0]])
    mask = torch.ones(3, 200, 200, dtype=torch.bool)
    images = torch.zeros(3, 3, 400, 400, dtype=torch.uint8)
    annotated = Batch(images, people, mask, torch.arange(3))
    objective = PoseObjective(NUM, sigma=2.5, placement="unbiased", sigma_per_size=0.06)
    truth = objective.targets(annotated)
    for maps, stride in ((truth.low, 4), (truth.high, 2)):
        areas = maps[:, 0].sum(dim=(1, 2))
        sigmas = [min(max(0.06 * size / stride, SMALLEST_SIGMA), 2.5) for size in (4.0, 60.0, 200.0)]
        torch.testing.assert_close(areas, 2 * torch.pi * torch.tensor(sigmas) ** 2, rtol=2e-3, atol=0)


def test_gaussians_of_a_single_keypoint_do_not_shrink_as_it_has_no_size() -> None:
    people = torch.tensor([[[[20.0, 30.0, 2.0]]]])
    images, mask = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), torch.ones(1, SIDE // 2, SIDE // 2).bool()
    one = Batch(images, people, mask, torch.tensor([1]))
    plain = PoseObjective(1, sigma=2.0).targets(one)
    sized = PoseObjective(1, sigma=2.0, sigma_per_size=0.04).targets(one)
    assert torch.equal(plain.low, sized.low)
    assert torch.equal(plain.high, sized.high)
