"""A data set with custom keypoints passes through training, search, export and prediction with its own names."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from search.runs.evolution_run import start_or_resume as search
from subnet_export.exporting.subnet import extract_model
from subnet_export.model import load_model, save_model
from supernet.checkpoints import container
from supernet.checkpoints.supernet_file import TrainedSupernet, load_supernet, save_supernet
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.datasets import build, resolved
from supernet.pose.evaluation import average_precision
from supernet.pose.inference import InferenceSettings, PosePredictions
from supernet.pose.keypoints import COCO, KeypointSet
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.training import run_folder
from supernet.training.launch import start_or_resume
from tests.helpers.coco_files import (
    CATEGORY,
    NAMES,
    remove_images,
    remove_skeleton,
    reorder_keypoints,
    rewrite,
    write_custom_set,
)
from tests.supernet.test_train import configuration, state_of

Trained = tuple[Path, TrainedSupernet, dict[str, Any]]
PHASE = {"name": "all", "share": 1, "elastic": ["resolution"], "subnets": ["largest"], "learning_rate": 1e-3}
KEYPOINTS = KeypointSet(
    "dancers", tuple(NAMES), (0.05, 0.06, 0.06, 0.08, 0.08), ((2, 1), (3, 4)), ((0, 1), (0, 2)), False
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A short training run on images on disk: its folder, its supernet, and the data set's configuration."""
    root = tmp_path_factory.mktemp("set")
    dataset = write_custom_set(root)
    runs = tmp_path_factory.mktemp("runs")
    start_or_resume(configuration(runs, dataset=dataset, steps=4, phases=[PHASE]), [])
    folder = runs / "train" / "run"
    return folder, load_supernet(folder), dataset


def test_the_supernet_keeps_the_file_s_keypoints(trained: Trained) -> None:
    folder, supernet, dataset = trained
    assert supernet.keypoints == KEYPOINTS
    assert supernet.supernet.num_keypoints == 5
    assert supernet.dataset == {**dataset, "keypoints": KEYPOINTS.to_plain()}
    assert build(supernet.dataset, "val").keypoints == KEYPOINTS
    assert state_of(folder / "supernet.pt")


def stopped_run(runs: Path, dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Take all steps of a run, but end it before its report; returns the configuration."""
    config = configuration(runs, dataset=dataset, steps=4, phases=[PHASE], checkpoint_every=2)
    with monkeypatch.context() as patch:
        patch.setattr("supernet.training.run.SubnetScorer", None)
        with pytest.raises(TypeError):
            start_or_resume(config, [])
    return config


def test_a_run_that_ended_before_its_report_is_resumed(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, dataset = trained
    config = stopped_run(tmp_path, dataset, monkeypatch)
    start_or_resume(config | {"resume": "latest"}, ["resume=latest"])
    resumed, whole = (state_of(run / "supernet.pt") for run in (tmp_path / "train" / "run", folder))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_run_is_not_resumed_on_keypoints_in_another_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = stopped_run(tmp_path, write_custom_set(tmp_path / "set"), monkeypatch)
    rewrite(tmp_path / "set", reorder_keypoints)
    message = r"cannot be resumed: .* keypoints.* \(keypoints\.names\[0\] 'RHand' instead of 'Snout', .*start a new run"
    with pytest.raises(UserError, match=message):
        start_or_resume(config | {"resume": "latest"}, ["resume=latest"])
    assert not (tmp_path / "train" / "run" / "summary.json").exists()


@pytest.mark.parametrize(
    ("change", "difference"),
    [(remove_images, "train_images.number 5 instead of 8"), (remove_skeleton, "keypoints.skeleton [] instead of [[")],
)
def test_a_run_resumed_on_other_annotations_says_what_differs(
    change: Callable[[dict[str, Any]], None],
    difference: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = stopped_run(tmp_path, write_custom_set(tmp_path / "set"), monkeypatch)
    rewrite(tmp_path / "set", change)
    caplog.clear()
    start_or_resume(config | {"resume": "latest"}, ["resume=latest"])
    (warning,) = [message for message in caplog.messages if "is resumed with" in message]
    assert difference in warning
    assert (tmp_path / "train" / "run" / "summary.json").exists()


def test_a_checkpoint_that_records_no_data_set_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = stopped_run(tmp_path, write_custom_set(tmp_path / "set"), monkeypatch)
    folder = tmp_path / "train" / "run"
    value = container.load(folder / "checkpoint.pt", "training")
    for entry in ("keypoints", "train_images"):  # as of an earlier release
        del value["made_with"][entry]
    run_folder.save_checkpoint(folder, value)
    caplog.clear()
    start_or_resume(config | {"resume": "latest"}, ["resume=latest"])
    assert not [message for message in caplog.messages if "is resumed with" in message]
    assert (folder / "summary.json").exists()


def test_an_exported_subnet_knows_its_names(trained: Trained, tmp_path: Path) -> None:
    _, supernet, _ = trained
    arch = supernet.supernet.space.smallest()
    model = extract_model(supernet, arch, build(supernet.dataset, "test"), num_calibration_images=4, batch_size=4)
    save_model(tmp_path / "model", model)
    read = load_model(tmp_path / "model")
    assert read.keypoints == KEYPOINTS
    assert (read.category_id, model.category_id) == (7, 7)
    assert json.loads((tmp_path / "model" / "model.json").read_text())["keypoints"]["names"] == NAMES
    image = build(read.dataset, "test")[0].image
    people = replace(read, settings=InferenceSettings(detection_threshold=0.0)).predict(image)
    assert people.poses.shape[1:] == (5, 3)
    assert [[first + 1, second + 1] for first, second in read.keypoints.skeleton] == CATEGORY["skeleton"]


def test_a_description_with_other_names_is_refused(trained: Trained, tmp_path: Path) -> None:
    _, supernet, _ = trained
    test_set = build(supernet.dataset, "test")
    model = extract_model(supernet, supernet.supernet.space.smallest(), test_set, num_calibration_images=4)
    save_model(tmp_path / "model", model)
    path = tmp_path / "model" / "model.json"
    content = path.read_text()
    value = json.loads(content)
    del value["checksum"]  # as a user who edits the file would
    content = json.dumps(value)
    path.write_text(content.replace('"Snout"', '"Nose"', 1))
    with pytest.raises(UserError, match=re.escape("'Snout'")):
        load_model(tmp_path / "model")
    del value["keypoints"]["flip_pairs"]
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"model\.json: keypoint set 'dancers' is unknown .* no flip_pairs"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("kind", ["own", "same", "without a skeleton"])
def test_a_search_uses_the_set_of_the_supernet(trained: Trained, tmp_path: Path, kind: str) -> None:
    folder, _, dataset = trained
    if kind == "without a skeleton":
        dataset = write_custom_set(tmp_path / "set") | {"keypoints": {}}
        rewrite(tmp_path / "set", remove_skeleton)
    options = ["population=2", "generations=1", "baseline=1", "num_images=2", "num_calibration_images=2", "threads=1"]
    config = search_configuration(*options, f"supernet={folder}", f"runs={tmp_path}", "name=run", "batch_size=2")
    config["dataset"] = None if kind == "own" else dataset
    summary = json.loads((search(config) / "summary.json").read_text())
    assert summary["keypoints"] == "dancers"
    assert 0 <= summary["chosen"]["metrics"]["test"]["AP"] <= 1


def test_a_search_on_a_set_with_other_sigmas_is_refused(trained: Trained, tmp_path: Path) -> None:
    folder, _, dataset = trained
    other = {**dataset, "keypoints": {"name": "dancers", "sigmas": [0.1] * 5}}
    config = search_configuration(f"supernet={folder}", f"runs={tmp_path}") | {"dataset": other}
    with pytest.raises(UserError, match=r"sigmas is \[0\.1,.* but the supernet .* was trained with \[0\.05,"):
        search(config)


def test_a_search_sees_a_missing_test_image_before_it_starts(trained: Trained, tmp_path: Path) -> None:
    folder, _, _ = trained
    dataset = write_custom_set(tmp_path / "set", 4)
    missing = sorted((tmp_path / "set" / "val").iterdir())[-1]
    missing.unlink()
    config = search_configuration(f"supernet={folder}", f"runs={tmp_path / 'runs'}") | {"dataset": dataset}
    with pytest.raises(UserError, match=f"val split.*{missing.name}"):
        search(config)
    assert not (tmp_path / "runs").exists()


def search_configuration(*overrides: str) -> dict[str, Any]:
    with initialize_config_module("conf", version_base="1.3"):
        config = OmegaConf.to_container(compose("evolve", list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def test_a_split_with_other_names_is_refused(trained: Trained, tmp_path: Path) -> None:
    dataset = write_custom_set(tmp_path, 2)
    content = json.loads((tmp_path / "annotations" / "val.json").read_text())
    content["categories"][0] = {**CATEGORY, "keypoints": list(reversed(NAMES))}
    (tmp_path / "annotations" / "val.json").write_text(json.dumps(content))
    dataset = resolved(dataset, build(dataset, "train").keypoints)
    with pytest.raises(UserError, match=r"val\.json: categories\[0\]\.keypoints calls keypoint 1 'RFoot', but"):
        build(dataset, "val")


def test_detections_carry_the_category_of_the_file(trained: Trained) -> None:
    _, supernet, _ = trained
    test_set = build(supernet.dataset, "test")
    scorer = SubnetScorer(supernet.supernet, test_set, test_set, InferenceSettings(detection_threshold=0.0), 4)
    evaluation = scorer(supernet.supernet.space.smallest())
    assert evaluation.results
    assert {result["category_id"] for result in evaluation.results} == {7}


def test_the_truth_as_detections_scores_1_with_the_set_s_own_sigmas(trained: Trained, tmp_path: Path) -> None:
    _, supernet, _ = trained
    truth = build(supernet.dataset, "test").ground_truth()
    results = [
        {"image_id": entry["image_id"], "category_id": 7, "keypoints": entry["keypoints"], "score": 1.0}
        for entry in truth["annotations"]
        if entry["num_keypoints"]
    ]
    assert KeypointEvaluator(truth, KEYPOINTS).score(results)["AP"] == 1
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert average_precision(tmp_path / "truth.json", tmp_path / "results.json", KEYPOINTS)["AP"] == 1


def test_files_that_name_a_built_in_set_still_load(trained: Trained, tmp_path: Path) -> None:
    _, supernet, _ = trained
    space = supernet.supernet.space
    torch.manual_seed(0)
    state = type(supernet.supernet)(space, 17).state_dict()
    dataset = {"kind": "synthetic", "keypoints": "coco"}
    evaluation = asdict(InferenceSettings())
    save_supernet(tmp_path / "supernet.pt", space, state, COCO, dataset, evaluation, supernet.objective)
    content = torch.load(tmp_path / "supernet.pt", weights_only=True)
    assert content["keypoints"] == "coco"
    assert load_supernet(tmp_path).keypoints is COCO


def test_people_of_a_custom_set_are_mirrored_by_its_own_pairs() -> None:
    assert KEYPOINTS.flip_index == (0, 2, 1, 4, 3)
    assert KEYPOINTS.sides == ("", "right", "left", "left", "right")
    people = PosePredictions(np.zeros((0, 5, 3), np.float32), np.zeros(0, np.float32))
    assert people.poses.shape[1] == KEYPOINTS.num
