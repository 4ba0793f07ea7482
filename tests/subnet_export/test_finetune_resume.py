"""A fine-tuning that was stopped says how to continue, and continues to the same bits."""

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from subnet_export.ap_measurement import measure
from subnet_export.exported_model import ExportedModel, Measurement
from subnet_export.finetuning import run as finetuning_run
from subnet_export.model import load_model, save_model
from subnet_export.runs import locked
from supernet.pose.inference import PoseEstimator
from tests.helpers.coco_files import remove_images, reorder_keypoints, rewrite, write_custom_set
from tests.helpers.finetuning import equal, pretend, run, stop_after, three_steps
from tests.helpers.locks import held_by_another_process

Exported = tuple[ExportedModel, Path]


Whole = tuple[list[Any], Path]


@pytest.fixture(scope="module")
def whole(exported: Exported, supernet_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The arguments of a run that was not stopped, and its result."""
    arguments = ["--model", exported[1], "--steps", 4, "--batch-size", 3, "--teacher", supernet_folder]
    result = tmp_path_factory.mktemp("whole") / "tuned"
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch, 0.1, 0.2)
        assert run(patch, *arguments, "--output", result) == 0
    return arguments, result


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_stopped_run_is_resumed_to_the_same_bits(
    step: int, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (arguments, expected), runs = whole, tmp_path / "runs"
    with monkeypatch.context() as patch:
        pretend(patch, 0.1, 0.2)
        stop_after(patch, step)
        assert run(patch, *arguments, "--runs", runs) == 2
    (left,) = os.listdir(runs / "finetune")  # no result, half or whole
    if step == 1:  # as where it was killed between two renames; with what other killed runs left
        last = runs / "finetune" / left
        last.rename(last.with_name(left.replace("checkpoint.pt", "checkpoint.previous.pt")))
        (last.parent / f".{left.removesuffix('.pt')}.tmp99999999.pt").touch()
        (last.parent / f".{left.removesuffix('.checkpoint.pt')}.tmp99999999").mkdir()  # of this run itself
    message = capsys.readouterr().err
    assert message == f"error: stopped after {step} of 4 steps; continue with --resume {runs / 'finetune' / left}\n"
    with monkeypatch.context() as patch:
        pretend(patch, 0.2, 0.0)  # AP before is not measured again, so 0.2 is the AP after
        name = "latest" if step == 1 else left.removesuffix(".checkpoint.pt")
        assert run(patch, "--resume", name, "--runs", runs) == 0
    resumed = runs / "finetune" / "latest"
    assert equal(load_model(resumed).network.state_dict(), load_model(expected).network.state_dict())
    assert sorted(os.listdir(runs / "finetune")) == sorted([left.removesuffix(".checkpoint.pt"), "latest"])
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (resumed, expected)]
    assert [summary["AP_val_before"] for summary in summaries] == [0.1, 0.1]
    assert summaries[0]["AP_test_after"] == summaries[1]["AP_test_after"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_stopped_while_measuring_says_how_to_resume(
    when: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(estimator: PoseEstimator, images: Any, split: str, *rest: Any) -> Measurement:
        if rest[-1] == f"{when}:" and split == "test":
            raise KeyboardInterrupt
        return measure(estimator, images, split, *rest)

    monkeypatch.setattr(finetuning_run, "measure", interrupted)
    folder = tmp_path / "my runs"
    assert run(monkeypatch, *three_steps(exported[1], folder / "tuned")) == 2
    message = capsys.readouterr().err
    if when == "before":
        assert message == "error: stopped while measuring; start again\n"
        assert os.listdir(tmp_path) == []
        return
    (option, checkpoint) = shlex.split(message.partition("continue with ")[2])
    assert (option, checkpoint) == ("--resume", str(folder / "tuned.checkpoint.pt"))
    monkeypatch.setattr(finetuning_run, "measure", measure)
    assert run(monkeypatch, "--resume", checkpoint) == 0
    assert os.listdir(folder) == ["tuned"]


def test_a_second_process_cannot_train_a_run_until_the_first_is_dead(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, new = tmp_path / "tuned", three_steps(exported[1], tmp_path / "tuned")
    resumed = ["--resume", f"{folder}.checkpoint.pt"]
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        assert run(patch, *new) == 2
    with held_by_another_process(locked(folder)) as child:
        for arguments in (resumed, new):
            capsys.readouterr()
            assert run(monkeypatch, *arguments) == 2
            assert f"{folder} is in use by process {child} " in capsys.readouterr().err
    assert run(monkeypatch, *resumed) == 0
    assert os.listdir(tmp_path) == ["tuned"]


def test_a_run_resumed_on_other_annotations_says_what_differs_and_other_keypoints_are_refused(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, checkpoint = tmp_path / "set", tmp_path / "tuned.checkpoint.pt"
    write_custom_set(root)
    dataset = ["--dataset", "custom", "--dataset-root", root, "dataset.category=dancer"]
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        assert run(patch, *three_steps(exported[1], tmp_path / "tuned"), *dataset) == 2
    capsys.readouterr()
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        rewrite(root, remove_images)
        assert run(patch, "--resume", checkpoint) == 2
    assert "train_images.number 5 instead of 8; the result may not" in " ".join(capsys.readouterr().err.split())
    rewrite(root, reorder_keypoints)
    assert run(monkeypatch, "--resume", checkpoint) == 2
    assert "calls keypoint 1 'RHand', but in the keypoint set custom it is 'Snout'" in capsys.readouterr().err


def test_options_of_a_stopped_run_cannot_be_changed_when_resuming(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(exported[1], tmp_path / "model"))
    stop_after(monkeypatch, 2)
    assert run(monkeypatch, *three_steps(model, tmp_path / "tuned")) == 2
    checkpoint = tmp_path / "tuned.checkpoint.pt"
    for arguments in (["--steps", 5], ["--output", "other"], ["dataset.root=/"], ["--from-scratch"], ["--model", "x"]):
        capsys.readouterr()
        assert run(monkeypatch, "--resume", checkpoint, *arguments) == 2
        assert "cannot be changed when resuming" in capsys.readouterr().err
    assert run(monkeypatch, *three_steps(model, tmp_path / "tuned")) == 2  # the same place again
    assert f"{checkpoint} exists already" in capsys.readouterr().err
    changed = load_model(model)
    with torch.no_grad():
        next(changed.network.parameters())[0, 0, 0, 0] += 1
    shutil.rmtree(model)
    save_model(model, changed)
    assert run(monkeypatch, "--resume", checkpoint) == 2
    assert f"{model} or the teacher has changed" in capsys.readouterr().err
