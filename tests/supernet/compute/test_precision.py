"""Number formats: forward passes may run in bfloat16, everything else must not."""

import pytest
import torch

from supernet.compute.precision import Precision, forward_precision, tf32
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.augmentation import Augmentation
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.training.phases import Phase, schedule
from supernet.training.trainer import StepReport, Trainer
from supernet.weight_sharing import SuperNet
from tests.helpers.rank_jobs import SPACE
from tests.helpers.training import step_settings, steps, train


def trained(precision: Precision, device: str = "cpu") -> tuple[Trainer, list[StepReport], list[torch.dtype]]:
    """Three steps, their reports, and the types of the networks' outputs."""
    torch.manual_seed(0)
    space = SearchSpace.from_dict(SPACE)
    outputs: list[torch.dtype] = []
    supernet = SuperNet(space, COCO.num).to(device)
    supernet.register_forward_hook(lambda _, __, maps: outputs.extend(tensor.dtype for tensor in maps))
    phase = Phase("both", 1, ("width", "depth"), ("largest", "smallest"), 1e-4, "inplace")
    settings = step_settings(batch_size=4, augmentation=Augmentation(), precision=precision)
    images = SyntheticPeople(COCO, 8, 1, 96, 96)
    trainer = Trainer(supernet, PoseObjective(COCO.num), images, schedule([phase], space, 3), settings)
    return trainer, train(trainer), outputs


def test_bfloat16_is_for_forward_passes_only_and_comes_close_to_float32() -> None:
    (exact, exact_reports, exact_types), (fast, reports, types) = trained("float32"), trained("bfloat16")
    assert set(exact_types) == {torch.float32}
    assert set(types) == {torch.bfloat16}
    for report, expected in zip(reports, exact_reports, strict=True):
        for terms, exact_terms in zip(report.losses, expected.losses, strict=True):
            assert terms.total.dtype == torch.float32
            torch.testing.assert_close(terms.total, exact_terms.total, rtol=0.02, atol=0)
        torch.testing.assert_close(report.gradient_norm, expected.gradient_norm, rtol=0.1, atol=0)
    assert all(weight.dtype == torch.float32 for weight in fast.weights.values())
    assert any(not torch.equal(fast.weights[name], weight) for name, weight in exact.weights.items())


def test_auto_is_float32_without_a_gpu() -> None:
    with forward_precision(torch.device("cpu"), "auto"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with forward_precision(torch.device("cpu"), "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_ends_with_its_context(allowed: bool) -> None:
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    with tf32(allowed):
        assert [place.allow_tf32 for place in places] == [allowed, allowed]
    assert [place.allow_tf32 for place in places] == before


@pytest.mark.gpu
def test_no_step_on_a_gpu_waits_for_it() -> None:
    torch.manual_seed(0)
    space = SearchSpace.from_dict(SPACE)
    supernet = SuperNet(space, COCO.num).cuda()
    phase = Phase("both", 1, ("width",), ("largest", "random", "smallest"), 1e-4, "inplace")
    settings = step_settings(batch_size=4, augmentation=Augmentation())
    images = SyntheticPeople(COCO, 8, 1, 96, 96)
    trainer = Trainer(supernet, PoseObjective(COCO.num), images, schedule([phase], space, 6), settings)
    try:
        for _ in steps(trainer):
            torch.cuda.set_sync_debug_mode("error" if 2 <= trainer.step < 6 else "default")
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_gpu_trains_as_a_cpu_does() -> None:
    with tf32(allowed=False):
        (_, on_gpu, _), (_, on_cpu, _) = trained("float32", "cuda"), trained("float32")
    for report, expected in zip(on_gpu, on_cpu, strict=True):
        for terms, cpu_terms in zip(report.losses, expected.losses, strict=True):
            torch.testing.assert_close(terms.total.cpu(), cpu_terms.total, rtol=1e-3, atol=0)
