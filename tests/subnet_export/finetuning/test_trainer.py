"""A fine-tuner trains a copy of a network on annotations and a teacher."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from subnet_export.exported_model import ExportedModel
from subnet_export.finetuning.new_heads import with_new_heads
from subnet_export.finetuning.plan import FinetunePlan, starting_model
from subnet_export.finetuning.teacher import calibrated, load_teacher
from subnet_export.finetuning.trainer import FineTuner, FineTuning
from supernet.checkpoints.supernet_file import TrainedSupernet
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import calibration_batches
from supernet.litepose import LitePose
from supernet.pose.datasets import build
from supernet.pose.geometry import normalise
from supernet.pose.keypoint_names import sources_of
from supernet.pose.keypoints import COCO, CROWDPOSE
from supernet.pose.training.augmentation import Augmentation
from supernet.pose.training.loader import StepSampler, training_loader
from supernet.pose.training.objective import to_device

Exported = tuple[ExportedModel, Path]
STEPS = FineTuning(3, batch_size=4)
CPU = torch.device("cpu")


def tuned_with(model: ExportedModel, settings: FineTuning, teacher: LitePose | None = None) -> FineTuner:
    tuner = FineTuner(model.network, model.objective, build(model.dataset, "train"), settings, teacher)
    for _ in tuner.steps():
        pass
    return tuner


def weights(network: LitePose) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


def maps(network: LitePose) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        low, high = network.eval()(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)))
    return low, high


def test_the_result_depends_on_the_seed_alone_and_the_start_is_not_changed(exported: Exported) -> None:
    model, _ = exported
    before = weights(model.network)
    first, second, other_seed = (
        weights(tuned_with(model, settings).result()) for settings in (STEPS, STEPS, replace(STEPS, seed=1))
    )
    assert equal(first, second)
    assert not equal(first, other_seed)
    assert equal(weights(model.network), before)


def test_training_lowers_the_loss(exported: Exported) -> None:
    model, _ = exported
    settings = FineTuning(40, 8, peak_rate=1e-2, average_decay=0.8, augmentation=Augmentation.none())
    train_set, objective = build(model.dataset, "train"), model.objective

    def loss(network: LitePose) -> float:
        sampler = StepSampler(len(train_set), [64], 8, 0)
        loader = training_loader(train_set, sampler, settings.augmentation, 0)
        batch = to_device(next(iter(loader)), CPU)
        with torch.no_grad():
            low, high = network(normalise(batch.images))
        return objective.loss(low, high, objective.targets(batch)).total.item()

    tuned = calibrated(tuned_with(model, settings).result(), train_set, 64, 6, model.settings)
    assert not tuned.training
    assert loss(tuned) < 0.7 * loss(model.network)


def test_a_teacher_draws_the_heatmaps_towards_its_own(exported: Exported, supernet_folder: Path) -> None:
    model, _ = exported
    train_set = build(model.dataset, "train")
    teacher = calibrated(load_teacher(supernet_folder, model.keypoints, CPU), train_set, 64, 8, model.settings)
    settings = FineTuning(15, 8, 1e-2, distillation_weight=100.0, average_decay=0.8, augmentation=Augmentation.none())

    (images,) = map(normalise, calibration_batches(train_set, 64, 8, 64))

    def distance(network: LitePose) -> float:
        with torch.no_grad():
            (low, high), (teacher_low, teacher_high) = network(images), teacher(images)
        return float(((low[:, :14] - teacher_low[:, :14]) ** 2).mean() + ((high - teacher_high) ** 2).mean())

    distilled, alone = (
        calibrated(tuned_with(model, settings, optional).result(), train_set, 64, 8, model.settings)
        for optional in (teacher, None)
    )
    assert distance(distilled) < 0.5 * distance(model.network)
    assert distance(distilled) < 0.5 * distance(alone)
    without_weight = replace(STEPS, distillation_weight=0.0)
    assert equal(
        weights(tuned_with(model, without_weight, teacher).result()), weights(tuned_with(model, STEPS).result())
    )


def test_the_teacher_of_a_supernet_is_its_largest_subnet(trained: TrainedSupernet, supernet_folder: Path) -> None:
    largest = trained.supernet.extract(trained.supernet.space.largest())
    for path in (supernet_folder, supernet_folder / "supernet.pt"):
        teacher = load_teacher(path, CROWDPOSE, CPU)
        assert teacher.arch == trained.supernet.space.largest()
        assert equal(weights(teacher), weights(largest))


def test_an_exported_model_can_teach_the_keypoints_that_it_predicts(exported: Exported) -> None:
    model, folder = exported
    assert equal(weights(load_teacher(folder, CROWDPOSE, CPU)), weights(model.network))
    with pytest.raises(UserError, match="predicts the 14 keypoints of crowdpose, but the 17 of coco"):
        load_teacher(folder, COCO, CPU)
    with pytest.raises(UserError, match=r"published targets.*unbiased"):
        load_teacher(folder, CROWDPOSE, CPU, "unbiased")
    other = replace(CROWDPOSE, name="own", skeleton=(), sigmas=(0.1,) * CROWDPOSE.num)
    assert equal(weights(load_teacher(folder, other, CPU)), weights(model.network))  # heatmaps depend on neither


def test_a_loss_that_is_not_finite_ends_training(exported: Exported) -> None:
    with pytest.raises(UserError, match=r"loss is not finite at step .*; lower --learning-rate"):
        tuned_with(exported[0], replace(STEPS, num_steps=10, peak_rate=1e30))


def test_new_heads_predict_known_keypoints_as_before_and_leave_the_rest_alone(exported: Exported) -> None:
    model, _ = exported
    changed = with_new_heads(model.network, sources_of(COCO.names, CROWDPOSE.names), seed=0)
    kept = [name for name in COCO.names if name in CROWDPOSE.names]
    assert len(kept) == 12
    low, high = maps(model.network)
    new_low, new_high = maps(changed)
    assert (new_low.shape[1], new_high.shape[1]) == (34, 17)
    for name in kept:
        old, new = CROWDPOSE.names.index(name), COCO.names.index(name)
        for before, after in ((high[:, old], new_high[:, new]), (low[:, old], new_low[:, new])):
            torch.testing.assert_close(after, before)
        torch.testing.assert_close(new_low[:, 17 + new], low[:, 14 + old])  # tags
    fresh = [index for index, name in enumerate(COCO.names) if name not in kept]
    assert new_high[:, fresh].abs().max() < 0.1 * new_high.abs().max()  # random heatmaps start near zero
    same = {name: value for name, value in model.network.state_dict().items() if not name.endswith("conv.3.weight")}
    assert equal(same, changed.state_dict())
    again = with_new_heads(model.network, sources_of(COCO.names, CROWDPOSE.names), seed=0)
    assert equal(again.state_dict(), changed.state_dict())
    back = with_new_heads(changed, sources_of(CROWDPOSE.names, COCO.names), seed=1)
    torch.testing.assert_close(maps(back)[1][:, :12], high[:, :12])


def test_the_same_keypoints_in_another_spelling_need_no_new_heads(exported: Exported) -> None:
    model, folder = exported
    plan = FinetunePlan("", True, str(folder), None, dict(model.dataset), False, STEPS, 4, None, 4)
    names = tuple(name.replace("_", " ").title() for name in CROWDPOSE.names)
    found, start = starting_model(plan, replace(CROWDPOSE, name="own", names=names), CPU)
    assert start.network is found.network
    assert start.keypoints.names == names
    found, start = starting_model(plan, replace(CROWDPOSE, name="own", names=("beak", *names[1:])), CPU)
    assert start.network is not found.network
    for before, after in zip(maps(found.network), maps(start.network), strict=True):
        torch.testing.assert_close(after[:, 1:14], before[:, 1:14])
        assert not torch.allclose(after[:, 0], before[:, 0])
