"""A step in parts has the gradient of the whole batch, apart from batch norm, and counts as one step."""

import copy
from dataclasses import astuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supernet.compute.distributed import Processes
from supernet.errors import UserError
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.objective import PoseObjective
from supernet.training.phases import schedule
from supernet.training.trainer import StepReport, Trainer
from supernet.weight_sharing import SuperNet
from tests.helpers.training import (
    NUM_STEPS,
    PHASES,
    SPACE,
    is_equal,
    step_settings,
    steps,
    through_a_file,
    tiny_trainer,
)


class Affine(nn.BatchNorm2d):
    """A frozen batch norm: it scales and shifts, whatever the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def freeze(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.BatchNorm2d):
                setattr(parent, name, Affine(module.num_features, track_running_stats=False, device="meta"))


def frozen_trainer(num_steps: int = NUM_STEPS, **changes: Any) -> tuple[Trainer, list[Tensor]]:
    """A trainer in float64 without batch norm, and the gradients of its steps, as they come."""
    torch.manual_seed(0)
    supernet = SuperNet(SPACE, COCO.num, freeze).double()
    supernet.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(), *inputs[1:]))
    people = SyntheticPeople(COCO, 9, 1, 64, 64)
    settings = step_settings(**{"batch_size": 4, **changes})
    trainer = Trainer(supernet, PoseObjective(COCO.num), people, schedule(PHASES, SPACE, num_steps), settings)
    gradients: list[Tensor] = []

    def remember(gradient: Tensor) -> Tensor:
        gradients.append(gradient.clone())
        return gradient

    trainer.adam._reduce = remember
    return trainer, gradients


@pytest.fixture
def losses_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are computed in float32 otherwise, whose rounding would hide errors."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


@pytest.mark.usefixtures("losses_in_float64")
@pytest.mark.parametrize("accumulate", [2, 4])
def test_gradients_and_steps_are_those_of_the_whole_batch(accumulate: int) -> None:
    (whole, expected), (parts, actual) = frozen_trainer(), frozen_trainer(accumulate=accumulate)
    for before, after in zip(steps(whole), steps(parts), strict=True):
        torch.testing.assert_close(actual[-1], expected[-1], rtol=1e-9, atol=1e-12)
        assert expected[-1].abs().max() > 1e-3
        assert after.rate == before.rate
        assert torch.equal(after.image_ids, before.image_ids)
        for own, other in zip(before.losses, after.losses, strict=True):
            torch.testing.assert_close(astuple(other), astuple(own), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(after.distillation, before.distillation, rtol=1e-9, atol=1e-12)
        for name, weight in whole.weights.items():
            torch.testing.assert_close(parts.weights[name], weight, rtol=1e-7, atol=1e-9, msg=name)
    # One exchange between processes, one update and one step of the schedule, however many parts.
    assert len(actual) == len(expected) == parts.step == NUM_STEPS
    assert parts.average.num_updates == parts.adam.num_steps == NUM_STEPS


def test_a_step_in_bfloat16_stays_close() -> None:
    (whole, expected), (parts, actual) = (
        frozen_trainer(accumulate=accumulate, precision="bfloat16") for accumulate in (1, 2)
    )
    next(iter(steps(whole)))
    next(iter(steps(parts)))
    difference = torch.linalg.vector_norm(actual[0] - expected[0]) / torch.linalg.vector_norm(expected[0])
    assert 0 <= difference < 0.03


def test_a_step_in_one_part_is_what_it_was() -> None:
    def last(report: StepReport, trainer: Trainer) -> Any:
        return [report.losses[-1].total, dict(trainer.state())]

    results = []
    choices: list[dict[str, Any]] = [{}, {"accumulate": 1}]
    for changes in choices:
        trainer = tiny_trainer(**changes)
        for report in steps(trainer):
            result = last(report, trainer)
        results.append(result)
    assert is_equal(*results)


def test_a_run_in_parts_resumes_to_the_same_bits() -> None:
    options: dict[str, Any] = {"batch_size": 4, "accumulate": 2}
    whole, states = tiny_trainer(**options), {}
    for _ in steps(whole):
        states[whole.step] = copy.deepcopy(whole.state())
    for stop in (3, 9):
        continued = tiny_trainer(**options)
        continued.load_state(through_a_file(states[stop]))
        for _ in steps(continued):
            pass
        assert is_equal(continued.state(), states[NUM_STEPS])


def test_parts_must_be_equally_large() -> None:
    with pytest.raises(UserError, match="accumulate=3"):
        tiny_trainer(batch_size=4, accumulate=3)
    with pytest.raises(UserError, match=r"2 processes.*accumulate=4"):
        Processes(0, 2).check_batch_size(4, 4)
    Processes(0, 2).check_batch_size(8, 4)
