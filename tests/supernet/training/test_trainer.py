"""What one step of a training sees and changes, on a tiny space."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from supernet.pose.geometry import normalise
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.loader import StepSampler, step_resolution
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.training.phases import Phase, schedule
from supernet.training.trainer import Trainer
from supernet.weight_sharing import SuperNet
from tests.helpers.spaces import TINY
from tests.helpers.training import step_settings, steps, train


def trainer(phases: list[Phase], num_steps: int, **changes: Any) -> Trainer:
    torch.manual_seed(0)
    space = SearchSpace.from_dict(TINY)
    return Trainer(
        SuperNet(space, COCO.num),
        PoseObjective(COCO.num),
        SyntheticPeople(COCO, 16, 1, 96, 96),
        schedule(phases, space, num_steps),
        step_settings(batch_size=4, **changes),
    )


def test_weights_outside_every_sampled_slice_do_not_move() -> None:
    every = ("resolution", "kernel_size", "depth", "expand_ratio", "width")
    largest = Phase("largest", 1, every, ("largest",), 1e-2)
    smallest = Phase("smallest", 1, every, ("smallest",), 1e-2)
    run = trainer([largest, smallest], 6)
    before: dict[str, torch.Tensor] = {}
    for _ in steps(run):
        if run.step == 3:
            before.update({name: weight.detach().clone() for name, weight in run.weights.items()})
    now = run.weights
    assert torch.equal(
        now["network.stage.1.0.point_conv.0.weight"][8:], before["network.stage.1.0.point_conv.0.weight"][8:]
    )
    assert not torch.equal(
        now["network.stage.1.0.point_conv.0.weight"][:8], before["network.stage.1.0.point_conv.0.weight"][:8]
    )
    unused_block = [name for name in now if name.startswith("network.stage.2.1.")]
    assert unused_block
    assert all(torch.equal(now[name], before[name]) for name in unused_block)


def test_a_frozen_teacher_is_the_average_before_its_phase_and_stays() -> None:
    largest = Phase("largest", 1, ("resolution",), ("largest",), 1e-2)
    distilled = Phase("distilled", 1, ("resolution", "width"), ("random",), 1e-2, "frozen")
    run = trainer([largest, distilled], 6)
    at_end: dict[str, torch.Tensor] = {}
    for _ in steps(run):
        if run.step == 3:
            at_end.update({name: value.clone() for name, value in run.averaged_state().items()})
    assert run.teacher is not None
    state = run.teacher.state_dict()
    assert all(torch.equal(state[name], at_end[name]) for name in at_end)


def test_training_lowers_the_loss_on_images_it_sees_again() -> None:
    run = trainer([Phase("largest", 1, (), ("largest",), 1e-2)], 40)
    totals = [float(report.losses[0].total) for report in train(run)]
    assert sum(totals[-4:]) < 0.8 * sum(totals[:4])


@pytest.mark.parametrize("largest_weight", [1.0, 3.0])
def test_the_other_subnets_of_a_step_learn_from_its_largest(largest_weight: float) -> None:
    """A step's gradient is that of the weighted mean over its subnets of own loss plus distance to the largest."""
    every = ("resolution", "kernel_size", "depth", "expand_ratio", "width")
    sandwich = Phase("sandwich", 1, every, ("largest", "smallest"), 1e-2, "inplace", largest_weight=largest_weight)
    run = trainer([sandwich], 1, distillation_weight=0.3)
    space, twin = run.supernet.space, copy.deepcopy(run.supernet)
    batch, _ = next(run.batches(run.scheduled[0]))
    truth, images = run.objective.targets(batch), normalise(batch.images)
    side = images.shape[-1]
    outputs = [twin(images, replace(arch, resolution=side)) for arch in (space.largest(), space.smallest())]
    of_largest, of_smallest = (run.objective.loss(low, high, truth).total for low, high in outputs)
    (largest_low, largest_high), (low, high) = outputs
    distance = run.objective.distillation(low, high, (largest_low.detach(), largest_high.detach()), truth)
    weighted = (largest_weight * of_largest + of_smallest + 0.3 * distance) / (largest_weight + 1)
    weighted.backward()  # type: ignore[no-untyped-call]
    norm = torch.stack([weight.grad.norm() for weight in twin.parameters() if weight.grad is not None]).norm()

    (report,) = train(run)
    assert report.distillation is not None
    torch.testing.assert_close(report.distillation, distance.detach())
    torch.testing.assert_close(report.gradient_norm, norm, rtol=1e-4, atol=0)


def test_steps_see_every_image_once_an_epoch_and_repeat_after_a_resume() -> None:
    whole = list(StepSampler(10, [64] * 10, 3, 7, 0))
    keys = [key for step in whole for key in step]
    for epoch in range(3):
        assert sorted(key[0] for key in keys[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert len({key[2] for key in keys}) == len(keys)
    assert list(StepSampler(10, [64] * 6, 3, 7, 4)) == whole[4:]


def test_resolutions_are_drawn_evenly_by_seed_and_step() -> None:
    drawn = [step_resolution((64, 96, 128), 0, step) for step in range(300)]
    assert all(70 <= drawn.count(size) <= 130 for size in (64, 96, 128))
    assert drawn == [step_resolution((64, 96, 128), 0, step) for step in range(300)]
