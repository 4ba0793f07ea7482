"""A card says which images its figures are of, by the names of their data set and without a path of this machine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from subnet_export.exported_model import Calibration, ExportedModel
from subnet_export.publish.model_card import describe_images, model_card
from supernet.checkpoints.lineage import training_data_of

HANDS = {"name": "hands", "names": [f"joint_{i}" for i in range(60)], "sigmas": [0.07] * 60}


def on_disk(keypoints: Any, annotations: str = "annotations/{}.json") -> dict[str, Any]:
    splits = {split: {"annotations": annotations.format(split), "images": split} for split in ("train", "val", "test")}
    return {"kind": "coco", "keypoints": keypoints, "root": "/data"} | splits


def result_dataset(card: str) -> dict[str, str]:
    """Return what the head of a card says its results were measured on."""
    head = yaml.safe_load(card.split("---\n")[1])
    dataset: dict[str, str] = head["model-index"][0]["results"][0]["dataset"]
    return dataset


@pytest.mark.parametrize(("keypoints", "name"), [("coco", "coco"), ("crowdpose", "crowdpose"), (HANDS, "hands")])
def test_results_belong_to_the_data_set_that_they_were_measured_on(
    exported: tuple[ExportedModel, Path], keypoints: Any, name: str
) -> None:
    card = model_card(replace(exported[0], dataset=on_disk(keypoints)))
    assert result_dataset(card) == {"type": name, "name": f"{name}, annotations annotations/test.json", "split": "test"}
    assert f"Data set: {name}, annotations `annotations/test.json`." in card


@pytest.mark.parametrize(("keypoints", "datasets"), [("coco", ["coco"]), ("crowdpose", ["crowdpose"]), (HANDS, [])])
def test_a_data_set_of_ones_own_has_no_public_name(
    exported: tuple[ExportedModel, Path], keypoints: Any, datasets: list[str]
) -> None:
    origin = replace(exported[0].origin, trained_on=(training_data_of(on_disk(keypoints)),))
    card = model_card(replace(exported[0], origin=origin))
    assert yaml.safe_load(card.split("---\n")[1])["datasets"] == datasets
    assert "- images on disk, annotations annotations/train.json" in card


def test_the_calibration_names_its_own_images(exported: tuple[ExportedModel, Path]) -> None:
    """After fine-tuning on other images that improved nothing, the statistics are still those of the first ones."""
    model = exported[0]
    drawn = "built-in people, 96 x 96 px"
    assert model.calibration.images == drawn
    statistics = "Batch-norm statistics from 6 images of the train split"
    assert f"{statistics} ({drawn})" in model_card(replace(model, dataset=on_disk("crowdpose")))
    earlier = replace(model, calibration=Calibration("train", 6, model.arch.resolution))
    assert f"{statistics} at " in model_card(earlier)


def test_no_text_holds_the_folder_of_a_file_elsewhere() -> None:
    dataset = on_disk("coco", "/home/someone/secret/{}.json")
    assert training_data_of(dataset).description == "images on disk, annotations train.json"
    assert describe_images(dataset, "test") == "coco, annotations `test.json`"
