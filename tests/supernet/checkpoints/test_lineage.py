"""Weights know all data sets that they were trained on, through warm starts, exports and fine-tuning."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subnet_export.exported_model import ExportedModel
from subnet_export.exporting.subnet import extract_model
from subnet_export.model import load_model, save_model
from supernet.checkpoints.lineage import (
    IMAGENET,
    PUBLISHED,
    TrainingData,
    extended,
    from_plain,
    saw_only_drawings,
    to_plain,
    training_data_of,
)
from supernet.checkpoints.supernet_file import load_supernet
from supernet.errors import UserError
from supernet.pose.datasets import build
from supernet.training.launch import start_or_resume
from tests.helpers.coco_files import write_custom_set
from tests.helpers.prediction import run, summary, write_images
from tests.supernet.test_train import configuration

PHASE = {"name": "all", "share": 1, "elastic": ["resolution"], "subnets": ["largest"], "learning_rate": 1e-3}
DRAWN = TrainingData("synthetic", "drawn")
PHOTOGRAPHS = TrainingData("coco", "photographs")


def test_a_lineage_names_each_data_set_once_in_order() -> None:
    lineage = extended((DRAWN,), PHOTOGRAPHS)
    assert lineage == (DRAWN, PHOTOGRAPHS)
    assert extended(lineage, DRAWN) == lineage
    assert from_plain(json.loads(json.dumps(to_plain(lineage)))) == lineage
    assert from_plain(None) == ()
    for malformed in ("x", [{"kind": "coco"}], [7]):
        with pytest.raises(UserError):
            from_plain(malformed)
    assert saw_only_drawings((DRAWN,))
    assert saw_only_drawings((IMAGENET, DRAWN))
    assert not saw_only_drawings(lineage)
    assert not saw_only_drawings((PUBLISHED,))


def exported_from(run_folder: Path, place: Path) -> ExportedModel:
    trained = load_supernet(run_folder)
    arch = trained.supernet.space.largest()
    model = extract_model(trained, arch, build(trained.dataset, "test"), num_calibration_images=4)
    return save_model(place, model)


def test_training_from_drawn_people_to_photographs_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short: dict[str, Any] = {"steps": 2, "phases": [PHASE], "report_random": 0, "checkpoint_every": 1}
    start_or_resume(configuration(tmp_path / "drawn", **short), [])
    drawn = exported_from(tmp_path / "drawn" / "train" / "run", tmp_path / "drawn_model")
    (data,) = drawn.origin.trained_on
    assert data == training_data_of(configuration(tmp_path)["dataset"])
    assert data.is_drawn
    assert load_model(tmp_path / "drawn_model").origin == drawn.origin
    assert "learned poses from drawn people only" in (tmp_path / "drawn_model" / "README.md").read_text()

    dataset = write_custom_set(tmp_path / "set", 4)
    config = configuration(tmp_path / "disk", dataset=dataset, **short) | {"init": str(tmp_path / "drawn_model")}
    with monkeypatch.context() as patch:
        patch.setattr("supernet.training.run.SubnetScorer", None)  # ends before the report
        with pytest.raises(TypeError):
            start_or_resume(config, [])
    start_or_resume(config | {"resume": "latest"}, ["resume=latest"])
    both = exported_from(tmp_path / "disk" / "train" / "run", tmp_path / "disk_model")
    assert both.origin.trained_on == (data, training_data_of(dataset))
    card = (tmp_path / "disk_model" / "README.md").read_text()
    assert data.description in card
    assert "annotations/train.json" in card
    assert "learned poses from drawn people only" not in card


def test_a_file_of_an_earlier_release_was_trained_on_its_data_set() -> None:
    model = load_model(Path(__file__).parents[2] / "golden" / "release" / "model")
    assert model.origin.trained_on == (training_data_of(model.dataset),)
    supernet = load_supernet(Path(__file__).parents[2] / "golden" / "release" / "supernet_format_2.pt")
    assert supernet.trained_on == (training_data_of(supernet.dataset),)


@pytest.mark.parametrize(("lineage", "warns"), [((DRAWN,), True), ((DRAWN, PHOTOGRAPHS), False)])
def test_prediction_says_what_the_model_has_seen(
    lineage: tuple[TrainingData, ...],
    warns: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = load_model(Path(__file__).parents[2] / "golden" / "release" / "model")
    own = replace(model, origin=replace(model.origin, trained_on=lineage))
    save_model(tmp_path / "model", own)
    write_images(tmp_path, ["a.png"])
    assert np.all([data in load_model(tmp_path / "model").origin.trained_on for data in lineage])
    arguments = (tmp_path / "a.png", "--no-drawings", "--output", tmp_path / "out")
    assert run(monkeypatch, tmp_path / "model", *arguments) == 0
    shown = capsys.readouterr()
    assert ("drawn people only" in shown.err) == warns
    assert f"trained on: {'; '.join(data.description for data in lineage)}" in shown.out
    assert summary(tmp_path / "out")["trained_on"] == [data.description for data in lineage]
