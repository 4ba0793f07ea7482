"""The command that fine-tunes writes the better of before and after."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from subnet_export.deployment.formats import FORMATS
from subnet_export.exported_model import ExportedModel
from subnet_export.exporting.format_options import FormatOptions
from subnet_export.exporting.format_writer import FormatWriter
from subnet_export.finetuning import run as finetuning_run
from subnet_export.finetuning.trainer import FineTuner
from subnet_export.model import load_model, save_model
from supernet.errors import UserError
from supernet.evaluation.calibration import calibrate
from supernet.evaluation.subnet_scorer import calibration_batches
from supernet.litepose import LitePose
from supernet.pose.datasets import build
from supernet.pose.geometry import normalise
from supernet.pose.keypoints import COCO, CROWDPOSE
from tests.helpers.finetuning import equal, pretend, run, three_steps

Exported = tuple[ExportedModel, Path]


def parameters(network: LitePose) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def test_a_better_network_is_written_calibrated(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = exported
    pretend(monkeypatch, 0.1, 0.2)
    assert run(monkeypatch, *three_steps(folder, tmp_path / "tuned")) == 0
    tuned = load_model(tmp_path / "tuned")
    assert tuned.arch == model.arch
    assert tuned.origin == replace(model.origin, num_finetune_steps=3)
    assert tuned.dataset == model.dataset
    assert not equal(parameters(tuned.network), parameters(model.network))
    summary = json.loads((tmp_path / "tuned" / "summary.json").read_text())
    assert summary["improved"] is True
    assert (summary["AP_val_before"], summary["AP_val_after"]) == (0.1, 0.2)
    assert summary["AP_test_before"] == round(model.measurement.metrics["AP"], 6)
    assert summary["AP_test_after"] == round(tuned.measurement.metrics["AP"], 6)
    assert sorted(os.listdir(tmp_path / "tuned")) == [
        "README.md",
        "example.jpg",
        "model.json",
        "pose.py",
        "summary.json",
        "weights.pt",
    ]
    assert os.listdir(tmp_path) == ["tuned"]  # the last checkpoint is gone

    assert tuned.calibration.num_images == model.calibration.num_images
    own = {name: value.clone() for name, value in tuned.network.named_buffers() if ".running_" in name}
    train_set = build(model.dataset, "train")
    calibrate(tuned.network, calibration_batches(train_set, 64, tuned.calibration.num_images, 64))
    assert all(torch.equal(value, dict(tuned.network.named_buffers())[name]) for name, value in own.items())


def test_fine_tuning_on_a_cpu_keeps_the_memory_of_a_step_for_the_next(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(is_training: bool = False) -> None:
        assert is_training
        raise UserError("prefers throughput")

    monkeypatch.setattr(finetuning_run, "prefer_throughput", stop)
    assert run(monkeypatch, *three_steps(exported[1], tmp_path / "tuned"), "--device", "cpu") == 2
    assert "prefers throughput" in capsys.readouterr().err


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
    assert run(monkeypatch, *three_steps(folder, tmp_path / "tuned")) == 0
    tuned = load_model(tmp_path / "tuned")
    assert equal(tuned.network.state_dict(), model.network.state_dict())
    assert tuned.origin == model.origin
    assert tuned.measurement == model.measurement
    assert json.loads((tmp_path / "tuned" / "summary.json").read_text())["improved"] is False
    assert "did not improve AP on the val split" in " ".join(capsys.readouterr().out.split())


def test_statistics_that_stay_are_those_of_their_own_images(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = exported
    pretend(monkeypatch, 0.2, 0.1)
    images = [f"dataset.{split}.num_images=4" for split in ("train", "val", "test")]
    other = ["--dataset", "synthetic", "dataset.keypoints=crowdpose", "dataset.width=64", "dataset.height=64", *images]
    assert run(monkeypatch, *three_steps(folder, tmp_path / "tuned"), *other) == 0
    tuned = load_model(tmp_path / "tuned")
    assert equal(tuned.network.state_dict(), model.network.state_dict())
    assert (tuned.dataset["width"], tuned.measurement.num_images) == (64, 4)
    assert tuned.calibration == replace(model.calibration, AP_before=None, AP_after=None, num_compared=0)
    card = (tmp_path / "tuned" / "README.md").read_text()
    assert "6 images of the train split (built-in people, 96 x 96 px)" in card
    assert "before calibration" not in card


def test_a_fine_tuned_model_can_be_fine_tuned_again(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for before, after in (("exported", "first"), ("first", "second")):
        pretend(monkeypatch, 0.1, 0.2)
        start = exported[1] if before == "exported" else tmp_path / before
        assert run(monkeypatch, *three_steps(start, tmp_path / after)) == 0
    assert load_model(tmp_path / "second").origin.num_finetune_steps == 6


def test_the_result_has_the_formats_of_the_model_it_started_from(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    start = tmp_path / "start"
    chosen = tuple(FORMATS[name] for name in ("onnx", "safetensors"))
    test_set = build(exported[0].dataset, "test")
    save_model(
        start, exported[0], write_formats=FormatWriter(FormatOptions(chosen, "float32", 2), test_set, list).write
    )
    pretend(monkeypatch, 0.1, 0.2)
    assert run(monkeypatch, *three_steps(start, tmp_path / "tuned")) == 0
    tuned = load_model(tmp_path / "tuned")
    assert {name: record.takes for name, record in tuned.formats.items()} == {"onnx": "float32", "safetensors": "state"}
    in_onnx, images = load_model(tmp_path / "tuned", format="onnx"), torch.randint(0, 256, (1, 3, 64, 64)).byte()
    assert in_onnx.runtime is not None
    for actual, expected in zip(in_onnx.runtime(images), tuned.network(normalise(images)), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_a_model_whose_graph_decodes_is_fine_tuned_to_one_that_decodes(
    decoding_formats: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, 0.1, 0.2)
    tuned = tmp_path / "tuned"
    assert run(monkeypatch, *three_steps(decoding_formats[1], tuned), "--format", "onnx") == 0
    assert load_model(tuned, format="onnx").detector is not None
    assert run(monkeypatch, *three_steps(tuned, tmp_path / "again"), "--format", "torch_export,onnx") == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "format torch_export cannot; leave it out of --format" in message
    assert "--decode" not in message  # fine-tuning has no such option


def test_a_format_that_fails_costs_no_training(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> Any:
        raise UserError("8-bit integers cost too much")

    with monkeypatch.context() as failing:
        failing.setattr("subnet_export.exporting.format_writer.FormatWriter.write", refuse)
        assert run(monkeypatch, *three_steps(exported[1], tmp_path / "tuned")) == 2
    assert "8-bit integers cost too much" in capsys.readouterr().err
    monkeypatch.setattr(FineTuner, "steps", lambda _: iter(()))  # every step is done
    checkpoint = tmp_path / "tuned.checkpoint.pt"
    assert run(monkeypatch, "--resume", checkpoint, "--format", "litepose") == 0
    assert load_model(tmp_path / "tuned").formats == {}


def test_the_teacher_is_calibrated_on_the_training_images_at_the_model_s_resolution(
    exported: Exported, supernet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = exported
    teachers: list[LitePose] = []

    class RecordingTuner(FineTuner):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            assert self.teacher is not None
            teachers.append(self.teacher)

    monkeypatch.setattr(finetuning_run, "FineTuner", RecordingTuner)
    assert run(monkeypatch, *three_steps(folder, tmp_path / "tuned"), "--teacher", supernet_folder) == 0
    (teacher,) = teachers
    own = {name: value.clone() for name, value in teacher.named_buffers() if ".running_" in name}
    calibrate(teacher, calibration_batches(build(model.dataset, "train"), 64, 6, 64))
    assert all(torch.equal(value, dict(teacher.named_buffers())[name]) for name, value in own.items())


def test_another_keypoint_set_keeps_the_backbone_and_is_reported(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = exported
    sizes = [f"dataset.{split}.num_images=3" for split in ("train", "val", "test")]
    arguments = ["--dataset", "synthetic", "dataset.width=96", "dataset.height=96", *sizes]
    pretend(monkeypatch, 0.3, 0.2)  # kept although AP fell, because the start was not a trained model
    assert run(monkeypatch, *three_steps(folder, tmp_path / "tuned"), *arguments) == 0
    tuned = load_model(tmp_path / "tuned")
    assert (model.keypoints, tuned.keypoints) == (CROWDPOSE, COCO)
    assert tuned.origin.num_finetune_steps == 3
    assert tuned.objective == replace(model.objective, num_keypoints=17)
    assert tuned.dataset["width"] == 96
    assert tuned.costs["params"] == sum(weight.numel() for weight in tuned.network.parameters())
    shown = " ".join(capsys.readouterr().out.split())
    assert "from the 14 keypoints of crowdpose to the 17 of coco; the backbone is kept" in shown
    assert "head weights of left_shoulder, right_shoulder," in shown
    assert "nose, left_eye, right_eye, left_ear, right_ear start at random" in shown


def test_other_sigmas_of_the_same_keypoints_leave_the_model_a_trained_one(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = exported
    other = replace(CROWDPOSE, name="own", sigmas=(0.1,) * 14)
    arguments = ["--dataset", "synthetic", "dataset.keypoints=" + json.dumps(other.described()).replace('"', "")]
    arguments += [f"dataset.{split}.num_images=3" for split in ("train", "val", "test")]
    pretend(monkeypatch, 0.3, 0.2)
    assert run(monkeypatch, *three_steps(folder, tmp_path / "tuned"), *arguments) == 0
    tuned = load_model(tmp_path / "tuned")
    assert equal(tuned.network.state_dict(), model.network.state_dict())
    assert tuned.keypoints == other
    assert "new heads" not in capsys.readouterr().out


def test_from_scratch_starts_without_the_model_s_weights(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = exported
    assert run(monkeypatch, *three_steps(folder, tmp_path / "tuned"), "--from-scratch", "--learning-rate", 1e-8) == 0
    tuned = load_model(tmp_path / "tuned")
    torch.manual_seed(0)
    expected = parameters(LitePose(model.arch, 14))
    for name, value in parameters(tuned.network).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
    assert tuned.origin.num_finetune_steps == 3
    assert "from scratch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere"], "there is no exported model in nowhere"),
        (["--teacher", "nowhere"], "there is no teacher at .*nowhere"),
        (["--resume", "latest"], "there is no checkpoint of a stopped run in runs/finetune"),
        (["--resume", "nowhere.pt"], "cannot read fine-tuning file nowhere.pt: No such file"),
        (["--dataset", "nowhere"], "dataset=nowhere"),
        (["--dataset", "coco"], "dataset.root is not set"),
        (["--dataset", "coco", "colour=3"], "there is no option colour"),
        (["dataset.width=64"], "dataset.width=64 .*name one with --dataset"),
        (
            ["--dataset", "synthetic", "--teacher", "MODEL"],
            "predicts the 14 keypoints of crowdpose, but the 17 of coco",
        ),
        (["--distillation-weight", "2"], "--distillation-weight has no effect without --teacher"),
        (["--learning-rate", "2"], "'2' must be a number from"),
        (["--step", "2"], "there is no option --step, did you mean --steps"),
    ],
)
def test_a_wrong_option_is_an_error_of_one_sentence(
    arguments: list[str],
    message: str,
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    own_arguments = [str(exported[1]) if argument == "MODEL" else argument for argument in arguments]
    start = [] if {"--model", "--resume"} & set(arguments) else ["--model", exported[1]]
    assert run(monkeypatch, *start, *own_arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert os.listdir(tmp_path) == []
