"""A training step creates every tensor on the device of its weights, and what is measured forbids TF32.

The meta device computes nothing but refuses tensors of other devices, as a GPU does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from subnet_export.ap_measurement import measure
from subnet_export.deployment.equivalence import differences
from subnet_export.deployment.runtimes import TorchRuntime
from subnet_export.finetuning.teacher import calibrated
from supernet.compute.precision import tf32
from supernet.evaluation.fused_convolution import FusedConvolution
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.objective import PoseObjective
from supernet.training.phases import schedule
from supernet.training.trainer import Trainer
from supernet.weight_sharing import SuperNet
from tests.helpers.training import NUM_STEPS, PHASES, SPACE, step_settings, train

PEOPLE = SyntheticPeople(COCO, 4, 1, 64, 64)


def test_no_step_of_a_training_mixes_devices() -> None:
    supernet = SuperNet(SPACE, COCO.num).to("meta")
    trainer = Trainer(supernet, PoseObjective(COCO.num), PEOPLE, schedule(PHASES, SPACE, NUM_STEPS), step_settings())
    reports = train(trainer)
    assert len(reports) == NUM_STEPS
    for report in reports:
        tensors = [report.gradient_norm, *(terms.total for terms in report.losses)]
        assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert {weight.device.type for weight in trainer.averaged_state().values()} == {"meta"}


class NoFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A device without float64, as Apple's GPUs are; here that of the tensors on "meta"."""

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        result = operation(*arguments, **(named or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.is_meta:
                assert leaf.dtype != torch.float64, operation
        return result


def test_no_step_of_a_training_needs_float64_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "sort_channels", lambda *_: None)  # on the CPU there, see channel_sorting
    supernet = SuperNet(SPACE, COCO.num).to("meta")
    settings = step_settings(fixed_shapes=True, precision="bfloat16", accumulate=2)
    trainer = Trainer(supernet, PoseObjective(COCO.num), PEOPLE, schedule(PHASES, SPACE, NUM_STEPS), settings)
    with NoFloat64():  # type: ignore[no-untyped-call]
        assert len(train(trainer)) == NUM_STEPS


@contextmanager
def allowed_in_forward_passes() -> Iterator[list[bool]]:
    """Collect whether TF32 is allowed in each convolution; it is allowed around this."""
    seen: list[bool] = []

    def note(module: nn.Module, _: object) -> None:
        if isinstance(module, nn.Conv2d | FusedConvolution):
            seen.append(torch.backends.cudnn.allow_tf32)

    handle = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        with tf32(allowed=True):
            yield seen
    finally:
        handle.remove()


@pytest.fixture(scope="module")
def scorer() -> SubnetScorer:
    return SubnetScorer(SuperNet(SPACE, COCO.num).eval(), PEOPLE, PEOPLE, InferenceSettings(), 4)


def test_a_score_is_computed_without_tf32(scorer: SubnetScorer) -> None:
    with allowed_in_forward_passes() as seen:
        scorer(SPACE.smallest())
    assert set(seen) == {False}


def test_an_export_is_measured_and_compared_without_tf32(scorer: SubnetScorer) -> None:
    estimator = scorer.estimator(SPACE.smallest())
    network = scorer.subnet(SPACE.smallest())
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with allowed_in_forward_passes() as seen:
        measure(estimator, PEOPLE, "test", 2, "")
        assert differences(network, TorchRuntime(network), [images])[0].largest == 0
        calibrated(network, PEOPLE, 64, 2, InferenceSettings())
    assert set(seen) == {False}
