"""Recorded passes compute and train what passes with fixed shapes do, for every subnet and every batch."""

from typing import Any

import numpy as np
import pytest
import torch

from supernet.compute.precision import tf32
from supernet.errors import UserError
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.training import trainer as trainer_module
from supernet.training.masked_subnets import masked_outputs
from supernet.training.phases import Phase, schedule
from supernet.training.subnet_choices import SubnetChoices
from supernet.training.trainer import Trainer
from supernet.weight_sharing import SuperNet
from tests.helpers.training import (
    EVERY,
    NUM_STEPS,
    PHASES,
    SPACE,
    step_settings,
    steps,
    through_a_file,
    tiny_trainer,
)
from tests.supernet.training.recorded_operations import RecordedOperations
from tests.supernet.training.test_masked_subnets import varied


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[RecordedOperations]:
    """Recorders of the trainers that are made from now on; they work on a CPU."""
    made: list[RecordedOperations] = []

    def new(device: torch.device) -> RecordedOperations:
        made.append(RecordedOperations(device))
        return made[-1]

    monkeypatch.setattr(trainer_module, "CudaGraphs", new)
    return made


@pytest.mark.parametrize("name", ["nano", "photos"])
def test_a_vector_stands_for_its_subnet(name: str) -> None:
    space = SearchSpace.load(name)
    supernet, rng = varied(space), np.random.default_rng(0)
    choices = SubnetChoices(supernet)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for arch in [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(2))]:
        results = []
        for is_vector in (False, True):
            if is_vector:
                low, high = choices.outputs(images, choices.of(arch))
            else:
                low, high = masked_outputs(supernet, images, arch)
            (low.square().mean() + high.sin().mean()).backward()  # type: ignore[no-untyped-call]
            results.append((low.detach(), high.detach(), {n: p.grad for n, p in supernet.named_parameters()}))
            supernet.zero_grad(set_to_none=True)
        (low, high, expected), (actual_low, actual_high, actual) = results
        assert torch.equal(actual_low, low)
        assert torch.equal(actual_high, high)
        for parameter, gradient in expected.items():
            other = actual[parameter]
            if gradient is None or other is None:
                assert not any(value is not None and value.any() for value in (gradient, other)), parameter
            else:
                torch.testing.assert_close(other, gradient, msg=parameter)
                assert not other[gradient == 0].any(), parameter  # exactly 0, so that Adam leaves the weight alone


def same_steps(recorded: Trainer, direct: Trainer) -> None:
    for expected, actual in zip(steps(direct), steps(recorded), strict=True):
        torch.testing.assert_close(actual.gradient_norm, expected.gradient_norm, rtol=1e-4, atol=0)
        for before, after in zip(expected.losses, actual.losses, strict=True):
            torch.testing.assert_close(after.total, before.total, rtol=1e-5, atol=0)
            torch.testing.assert_close(after.pull, before.pull, rtol=1e-4, atol=1e-7)
        if expected.distillation is None:
            assert actual.distillation is None
        else:
            assert actual.distillation is not None
            torch.testing.assert_close(actual.distillation, expected.distillation, rtol=1e-4, atol=1e-9)
    for name, weight in direct.weights.items():
        torch.testing.assert_close(recorded.weights[name], weight, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_with_recordings_takes_the_same_steps(accumulate: int, recorders: list[RecordedOperations]) -> None:
    options: dict[str, Any] = {"batch_size": 4, "accumulate": accumulate}
    recorded, direct = tiny_trainer(cuda_graphs=True, **options), tiny_trainer(fixed_shapes=True, **options)
    same_steps(recorded, direct)
    # Two sizes of inputs; inputs, teacher, and the passes: alone, masked with frozen teacher, makes, masked follows.
    assert recorders[0].num_recordings <= 2 * (2 + 4)


def test_a_step_without_teacher_is_recorded_too(recorders: list[RecordedOperations]) -> None:
    phases = (Phase("width", 1, EVERY, ("smallest", "random", "largest"), 1e-2),)
    same_steps(tiny_trainer(phases, 4, cuda_graphs=True), tiny_trainer(phases, 4, fixed_shapes=True))
    assert recorders


def test_subnets_that_masks_cannot_express_are_computed_directly(
    recorders: list[RecordedOperations], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "can_mask", lambda largest, arch: arch.stages[1].width == 16)
    same_steps(tiny_trainer(cuda_graphs=True), tiny_trainer(fixed_shapes=True))


def test_recordings_survive_a_return_to_an_earlier_state(recorders: list[RecordedOperations]) -> None:
    """As after a rollback: weights are replaced in place, and the frozen teacher is another object."""
    trainer, states, losses = tiny_trainer(cuda_graphs=True), {}, {}
    for report in steps(trainer):
        losses[report.step] = report.losses[0].total
        if trainer.step == 6:
            states[6] = through_a_file(trainer.state())
    trainer.load_state(states[6])
    for report in steps(trainer):
        assert torch.equal(report.losses[0].total, losses[report.step]), report.step


def test_recordings_need_fixed_shapes() -> None:
    with pytest.raises(UserError, match="fixed_shapes=false"):
        tiny_trainer(cuda_graphs=True, fixed_shapes=False)


@pytest.mark.gpu
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gpu_takes_the_same_steps_with_recordings(accumulate: int) -> None:
    def on_a_gpu(**changes: Any) -> Trainer:
        torch.manual_seed(0)
        settings = step_settings(batch_size=4, accumulate=accumulate, precision="float32", **changes)
        images = SyntheticPeople(COCO, 5, 1, 64, 64)
        supernet = SuperNet(SPACE, COCO.num).cuda()
        return Trainer(supernet, PoseObjective(COCO.num), images, schedule(PHASES, SPACE, NUM_STEPS), settings)

    recorded, direct = on_a_gpu(cuda_graphs=True), on_a_gpu()
    with tf32(allowed=False):
        for expected, actual in zip(steps(direct), steps(recorded), strict=True):
            for before, after in zip(expected.losses, actual.losses, strict=True):
                torch.testing.assert_close(after.total, before.total, rtol=1e-3, atol=0)
