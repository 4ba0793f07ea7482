"""Number formats: what runs in bfloat16, and what must not."""

import pytest
import torch

from supernet.compute.precision import Precision, forward_precision, tf32
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.augmentation import Augmentation
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.training.phases import Phase, schedule
from supernet.training.trainer import LoopSettings, StepReport, Trainer
from supernet.weight_sharing import SuperNet
from tests.helpers.rank_jobs import SPACE


def trained(precision: Precision, device: str = "cpu") -> tuple[Trainer, list[StepReport], list[torch.dtype]]:
    """Three steps, their reports, and the types of the networks' outputs."""
    torch.manual_seed(0)
    space = SearchSpace.from_dict(SPACE)
    outputs: list[torch.dtype] = []
    reports: list[StepReport] = []
    supernet = SuperNet(space, COCO.num).to(device)
    supernet.register_forward_hook(lambda _, __, out: outputs.extend(each.dtype for each in out))
    phase = Phase("both", 1, ("width", "depth"), ("largest", "smallest"), 1e-4, "inplace")
    settings = LoopSettings(4, 0, 1.0, 0.9, 1.0, 0, Augmentation(), precision)
    images = SyntheticPeople(COCO, 8, 1, 96, 96)
    run = Trainer(supernet, PoseObjective(COCO.num), images, schedule([phase], space, 3), settings)
    run.run(reports.append, lambda _: None)
    return run, reports, outputs


def test_bfloat16_is_for_forward_passes_only_and_comes_close_to_float32() -> None:
    (exact, exact_reports, exact_types), (fast, reports, types) = trained("float32"), trained("bfloat16")
    assert set(exact_types) == {torch.float32}
    assert set(types) == {torch.bfloat16}
    for report, wanted in zip(reports, exact_reports, strict=True):
        for terms, others in zip(report.losses, wanted.losses, strict=True):
            assert terms.total.dtype == torch.float32
            torch.testing.assert_close(terms.total, others.total, rtol=0.02, atol=0)
        torch.testing.assert_close(report.gradient_norm, wanted.gradient_norm, rtol=0.1, atol=0)
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
    settings = LoopSettings(4, 0, 1.0, 0.9, 1.0, 0, Augmentation(), "auto")
    images = SyntheticPeople(COCO, 8, 1, 96, 96)
    run = Trainer(supernet, PoseObjective(COCO.num), images, schedule([phase], space, 6), settings)

    def watch(_: StepReport) -> None:
        torch.cuda.set_sync_debug_mode("error" if 2 <= run.step < 6 else "default")

    try:
        run.run(watch, lambda _: None)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_gpu_trains_as_a_cpu_does() -> None:
    (_, there, _), (_, here, _) = trained("float32", "cuda"), trained("float32")
    for report, wanted in zip(there, here, strict=True):
        for terms, others in zip(report.losses, wanted.losses, strict=True):
            torch.testing.assert_close(terms.total.cpu(), others.total, rtol=1e-3, atol=0)
