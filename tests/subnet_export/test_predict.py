"""Prediction draws people and writes their keypoints, and names the pictures it cannot read."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from subnet_export import predict as entry
from subnet_export.exported_model import ExportedModel
from supernet.pose.datasets import build
from supernet.pose.drawing import draw_people, save_png
from supernet.pose.pictures import read_picture

Exported = tuple[ExportedModel, Path]


def run(monkeypatch: pytest.MonkeyPatch, model: Path, *arguments: object) -> int:
    """Call the entry point as from a command line; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["predict", "--device", "cpu", "--model", str(model), *map(str, arguments)])
    try:
        entry.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def picture(tmp_path: Path) -> npt.NDArray[np.uint8]:
    """Smooth noise, also at pictures/one.png; people are found in it, as the network is untrained."""
    image = np.random.default_rng(0).integers(0, 256, (500, 640, 3), dtype=np.uint8)
    save_png(tmp_path / "pictures" / "one.png", image)
    return image


def people(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "people.json").read_text())
    return value


def test_a_picture_is_drawn_on_and_its_people_are_written(
    exported: Exported, picture: npt.NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = exported
    path, out = tmp_path / "pictures" / "one.png", tmp_path / "out"
    assert run(monkeypatch, folder, path, "--output", out, "--min-score", 0) == 0
    found = model.predict(picture)
    assert len(found.scores) > 0
    value = people(out)
    assert value["images"] == [{"id": 1, "file_name": str(path), "drawing": "one.png", "width": 640, "height": 500}]
    assert value["categories"][0]["keypoints"] == list(model.keypoints.names)
    assert {(entry["image_id"], entry["category_id"]) for entry in value["annotations"]} == {(1, 1)}
    poses = np.array([entry["keypoints"] for entry in value["annotations"]]).reshape(-1, 14, 3)
    np.testing.assert_allclose(poses, found.poses, atol=1e-3)
    np.testing.assert_allclose([entry["score"] for entry in value["annotations"]], found.scores, atol=1e-4)
    drawn = read_picture(out / "one.png")
    np.testing.assert_array_equal(drawn, draw_people(picture, found.poses, model.keypoints))
    assert (drawn != picture).any()


def test_people_below_the_score_are_left_out(
    exported: Exported, picture: npt.NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = exported
    border = float(np.median(model.predict(picture).scores))
    path, out = tmp_path / "pictures" / "one.png", tmp_path / "out"
    assert run(monkeypatch, folder, path, "--output", out, "--min-score", border) == 0
    assert len(people(out)["annotations"]) == (model.predict(picture).scores >= border).sum() > 0


def test_without_a_picture_a_test_picture_is_drawn_beside_the_truth(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = exported
    runs = tmp_path / "runs"
    assert run(monkeypatch, folder, "--runs", runs, "--dataset-index", 2, "--min-score", 0) == 0
    latest = runs / "predict" / "latest"
    assert sorted(os.listdir(latest)) == ["people.json", "summary.json", "test_2.png"]
    example = build(model.dataset, "test")[2]
    value = people(latest)
    assert (value["images"][0]["width"], value["images"][0]["height"]) == (96, 96)
    assert len(value["annotations"]) == len(model.predict(example.image).scores)
    # 96 px are enlarged five times; the prediction stands left of the truth.
    drawn = read_picture(latest / "test_2.png")
    assert drawn.shape[0] == 480
    assert drawn.shape[1] > 2 * 480
    enlarged = np.asarray(cv2.resize(example.image, (480, 480), interpolation=cv2.INTER_CUBIC), np.uint8)
    found = np.array([entry["keypoints"] for entry in value["annotations"]]).reshape(-1, 14, 3)
    for side, poses in ((drawn[:, :480], found), (drawn[:, -480:], example.people)):
        expected = draw_people(enlarged, poses * [5, 5, 1], model.keypoints)
        assert (side != enlarged).any()
        assert (side == expected).all(axis=2).mean() > 0.99  # keypoints in people.json are rounded


def test_folders_are_searched_and_names_stay_apart(
    exported: Exported, picture: npt.NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    save_png(pictures / "deeper" / "one.png", picture)
    (pictures / "notes.txt").write_text("no picture")
    arguments = (pictures, pictures / "deeper" / "one.png", "--output", out)
    assert run(monkeypatch, exported[1], *arguments) == 0
    assert [(image["file_name"], image["drawing"]) for image in people(out)["images"]] == [
        (str(pictures / "one.png"), "one.png"),
        (str(pictures / "deeper" / "one.png"), "one_2.png"),
    ]
    assert sorted(os.listdir(out)) == ["one.png", "one_2.png", "people.json", "summary.json"]


def test_broken_pictures_are_named_and_the_others_done(
    exported: Exported,
    picture: npt.NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    (pictures / "broken.jpg").write_bytes(b"<html>")
    arguments = (pictures / "missing.png", pictures / "broken.jpg", pictures / "one.png")
    assert run(monkeypatch, exported[1], *arguments, "--output", out) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: 2 of 3 could not be used: ")
    assert f"picture {pictures / 'missing.png'}: No such file" in told
    assert f"picture {pictures / 'broken.jpg'} cannot be decoded" in told
    assert sorted(os.listdir(out)) == ["one.png", "people.json", "summary.json"]
    assert len(people(out)["images"]) == 1


def test_one_broken_picture_is_named_and_nothing_is_written(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    assert run(monkeypatch, exported[1], tmp_path / "broken.png", "--runs", tmp_path / "runs") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: picture {tmp_path / 'broken.png'} cannot be decoded")
    assert told.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset-index", "3"], "--dataset-index is 3, but there are 3 test pictures"),
        (["--dataset-index", "-1"], "'-1' must be a whole number of at least 0"),
        (["a.png", "--dataset-index", "1"], "give either pictures or --dataset-index, not both"),
        (["--min-score", "nan"], "'nan' must be a number from 0 to 1"),
        (["--dataset-root", "/"], "a data set of kind 'synthetic' has no folder"),
        (["."], "folder . holds no picture"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    arguments: list[str],
    message: str,
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, exported[1], "--runs", "runs", *arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert os.listdir(tmp_path) == []
