"""Fine-tuning trains an exported model further and keeps the better of before and after."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from subnet_export import finetune as entry
from subnet_export import finetuning
from subnet_export.exported_model import ExportedModel, Measurement
from subnet_export.finetuning import FineTuning, fine_tune, train
from subnet_export.measuring import measure
from subnet_export.model import load_model
from supernet.calibration import calibrate
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.augment import Augmentation
from supernet.pose.datasets import build
from supernet.pose.geometry import normalise
from supernet.pose.loader import training_loader
from supernet.pose.objective import PoseObjective, to_device
from supernet.scoring import calibration_batches

Exported = tuple[ExportedModel, Path]
STEPS = FineTuning(3, batch_size=4, num_workers=0)


def run(monkeypatch: pytest.MonkeyPatch, model: Path, out: Path) -> None:
    """Call the entry point as from a command line, for three steps."""
    fixed = ["--device", "cpu", "--steps", "3", "--batch-size", "4", "--num-workers", "0"]
    monkeypatch.setattr(sys, "argv", ["finetune", *fixed, "--model", str(model), "--output", str(out)])
    entry.main()


def parameters(network: LitePose) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def pretend(monkeypatch: pytest.MonkeyPatch, before: float, after: float) -> None:
    """Let AP on the validation split come out as given; other splits are measured."""
    told = iter((before, after))

    def pretended(network: LitePose, pictures: Any, split: str, *rest: Any) -> Measurement:
        found = measure(network, pictures, split, *rest)
        return replace(found, metrics={**found.metrics, "AP": next(told)}) if split == "val" else found

    monkeypatch.setattr(finetuning, "measure", pretended)


def test_a_better_network_is_written(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = exported
    pretend(monkeypatch, 0.1, 0.2)
    run(monkeypatch, folder, tmp_path / "tuned")
    tuned = load_model(tmp_path / "tuned")
    assert tuned.arch == model.arch
    assert tuned.origin == replace(model.origin, num_finetune_steps=3)
    assert tuned.dataset == model.dataset
    assert not equal(parameters(tuned.network), parameters(model.network))
    summary = json.loads((tmp_path / "tuned" / "summary.json").read_text())
    assert summary["improved"] is True
    assert (summary["AP_val_before"], summary["AP_val_after"]) == (0.1, 0.2)
    assert summary["AP_test_after"] == round(tuned.measurement.metrics["AP"], 6)
    assert sorted(os.listdir(tmp_path / "tuned")) == ["model.json", "summary.json", "weights.pt"]


@pytest.mark.parametrize("after", [0.1, 0.2])
def test_a_network_that_did_not_improve_is_left_as_it_was(
    after: float,
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, folder = exported
    pretend(monkeypatch, 0.2, after)
    run(monkeypatch, folder, tmp_path / "tuned")
    tuned = load_model(tmp_path / "tuned")
    assert equal(tuned.network.state_dict(), model.network.state_dict())
    assert tuned.origin == model.origin
    assert tuned.measurement == model.measurement
    assert json.loads((tmp_path / "tuned" / "summary.json").read_text())["improved"] is False
    assert "did not improve AP on the val split" in " ".join(capsys.readouterr().out.split())


def test_a_fine_tuned_model_can_be_fine_tuned_again(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for before, after in (("exported", "first"), ("first", "second")):
        pretend(monkeypatch, 0.1, 0.2)
        run(monkeypatch, exported[1] if before == "exported" else tmp_path / before, tmp_path / after)
    assert load_model(tmp_path / "second").origin.num_finetune_steps == 6


def test_the_result_depends_on_the_seed_alone_and_the_start_is_not_changed(exported: Exported) -> None:
    model, _ = exported
    before, train_set = parameters(model.network), build(model.dataset, "train")
    found = [
        parameters(train(model.network, PoseObjective(14), train_set, settings, lambda *_: None))
        for settings in (STEPS, STEPS, replace(STEPS, seed=1))
    ]
    assert equal(found[0], found[1])
    assert not equal(found[0], found[2])
    assert equal(parameters(model.network), before)


def test_training_lowers_the_loss_and_ends_calibrated(exported: Exported) -> None:
    model, _ = exported
    train_set, objective = build(model.dataset, "train"), model.objective
    settings = FineTuning(40, 8, peak_rate=1e-2, num_workers=0, average_decay=0.8, augmentation=Augmentation.none())

    def loss(network: LitePose) -> float:
        loader = training_loader(train_set, [64], 8, 0, settings.augmentation, 0)
        batch = to_device(next(iter(loader)), torch.device("cpu"))
        with torch.no_grad():
            low, high = network(normalise(batch.images))
        return objective.loss(low, high, objective.targets(batch)).total.item()

    tuned, calibration = fine_tune(model, train_set, settings)
    assert not tuned.training
    assert loss(tuned) < 0.7 * loss(model.network)
    assert calibration.num_images == model.calibration.num_images
    own = {name: value.clone() for name, value in tuned.named_buffers() if ".running_" in name}
    calibrate(tuned, map(normalise, calibration_batches(train_set, 64, calibration.num_images, 64)))
    assert equal(own, dict(tuned.named_buffers()))


def test_a_loss_that_is_not_finite_ends_training(exported: Exported) -> None:
    model, _ = exported
    with pytest.raises(UserError, match=r"loss is not finite at step .*; lower --learning-rate"):
        train(
            model.network,
            PoseObjective(14),
            build(model.dataset, "train"),
            replace(STEPS, num_steps=10, peak_rate=1e30),
            lambda *_: None,
        )


def test_a_missing_model_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, tmp_path / "nowhere", tmp_path / "tuned")
    assert stop.value.code == 2
    assert "error: there is no exported model in" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
