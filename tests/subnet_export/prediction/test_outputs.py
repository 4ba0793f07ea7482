"""COCO results are those of the evaluation, and files that must be complete appear complete or not at all."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subnet_export.exported_model import ExportedModel
from subnet_export.model import save_model
from subnet_export.prediction.drawings import Drawings
from subnet_export.prediction.sources import Frame, Source
from supernet.errors import UserError
from supernet.pose.datasets import build
from supernet.pose.drawing import save_image
from supernet.pose.evaluation import evaluate
from tests.helpers.prediction import lines, run, write_images, write_video

Exported = tuple[ExportedModel, Path]


def test_results_are_those_of_the_evaluation(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = exported
    test_set = build(model.dataset, "test")
    for index, image_id in enumerate(test_set.image_ids):
        save_image(tmp_path / "images" / f"{image_id:012}.png", test_set[index].image)
    path = tmp_path / "results.json"
    arguments = ("--min-score", 0, "--no-drawings", "--results", path, "--output", tmp_path / "out")
    assert run(monkeypatch, folder, tmp_path / "images", *arguments, "--batch-size", 2) == 0
    expected = evaluate(model.estimator(batch_size=4), test_set).results
    assert len(expected) > 1
    results = json.loads(path.read_text())
    expected = sorted(expected, key=lambda result: int(result["image_id"]))
    assert [result["image_id"] for result in results] == [result["image_id"] for result in expected]
    for result, expected_result in zip(results, expected, strict=True):
        assert result.keys() == expected_result.keys()
        np.testing.assert_allclose(result["keypoints"], expected_result["keypoints"], atol=1e-3)
        assert result["score"] == pytest.approx(expected_result["score"], abs=1e-5)
    assert sorted(os.listdir(tmp_path / "out")) == ["people.jsonl", "summary.json"]
    assert all(line["drawing"] is None for line in lines(tmp_path / "out"))


def test_results_without_people_are_an_empty_list(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    path = tmp_path / "results.json"
    arguments = (tmp_path / "a.png", tmp_path / "b.png", "--min-score", 1, "--results", path, "--runs", tmp_path)
    assert run(monkeypatch, exported[1], *arguments) == 0
    assert json.loads(path.read_text()) == []


@pytest.mark.parametrize("name", ["a" * 251, "照" * 83])
def test_images_with_the_longest_names_are_drawn(name: str, tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    drawings = Drawings(tmp_path / "drawn")
    names = [drawings.write(Frame(Source(f"{name}{suffix}", "image"), image), image) for suffix in (".png", ".jpg")]
    assert sorted(os.listdir(tmp_path / "drawn")) == sorted(names)
    assert all(drawn.startswith(name[:60]) for drawn in names)


def test_an_error_midway_leaves_no_partial_file(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(frame: Frame, *_: object) -> dict[str, Any]:
        if frame.number == 2:
            raise UserError("the disk is full; free space")
        return {"frame": frame.number}

    write_video(tmp_path / "clip.mp4", 9)
    monkeypatch.setattr("subnet_export.prediction.writer.image_record", full)
    results, out = tmp_path / "results.json", tmp_path / "out"
    assert run(monkeypatch, exported[1], tmp_path / "clip.mp4", "--output", out, "--results", results) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: the disk is full; free space"
    assert sorted(os.listdir(tmp_path)) == ["clip.mp4", "out"]
    assert lines(out) == [{"frame": 0}, {"frame": 1}]  # these are written line by line
    assert os.listdir(out) == ["people.jsonl"]


def test_results_carry_the_ids_of_the_annotations(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = exported
    save_model(tmp_path / "model", replace(model, category_id=12))
    write_images(tmp_path / "a", ["x.png"])
    write_images(tmp_path / "b", ["x.png", "y.png"])
    sources = (tmp_path / "a" / "x.png", tmp_path / "b")
    arguments = ("--min-score", 0, "--no-drawings")

    def results(name: str, *more: object) -> list[dict[str, Any]]:
        path, out = tmp_path / name, tmp_path / f"out_{name}"
        assert (
            run(monkeypatch, tmp_path / "model", *sources, *arguments, "--results", path, "--output", out, *more) == 0
        )
        value: list[dict[str, Any]] = json.loads(path.read_text())
        return value

    counted = results("counted.json")
    assert {result["category_id"] for result in counted} == {12}
    assert {result["image_id"] for result in counted} == {1, 2, 3}
    category = {"id": "4", "name": "person", "keypoints": list(model.keypoints.names)}
    names = {"007": "a/x.png", "008": "b/x.png", "009": "y.png"}
    images = [{"id": key, "file_name": name, "width": 160, "height": 120} for key, name in names.items()]
    file = tmp_path / "people.json"
    file.write_text(json.dumps({"images": images, "annotations": [], "categories": [category]}))
    own = results("own.json", "--annotations", file)
    expected = [{**result, "image_id": f"00{6 + result['image_id']}", "category_id": "4"} for result in counted]
    assert own == expected
    images[0]["file_name"] = "c/x.png"
    file.write_text(json.dumps({"images": images, "annotations": [], "categories": [category]}))
    assert run(monkeypatch, tmp_path / "model", *sources, *arguments, "--annotations", file) == 2
    assert "lists 0 images" in capsys.readouterr().err
