"""Prediction draws people, writes their keypoints, and names the sources that it cannot read."""

import argparse
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from torch import Tensor

from subnet_export.deployment.runtimes import Runtime
from subnet_export.exported_model import ExportedModel
from subnet_export.model import save_model
from subnet_export.runs import reserved_folder
from supernet.errors import UserError
from supernet.pose.data.image_decoding import read_image
from supernet.pose.datasets import build
from supernet.pose.drawing import draw_people, save_image
from supernet.pose.geometry import normalise, resized_size
from supernet.pose.inference import CPU_PIXELS
from tests.helpers.prediction import distance, lines, noise, run, summary, write_images, write_video
from tests.supernet.pose.data.test_exif import with_orientation

Exported = tuple[ExportedModel, Path]
ROOT = Path(__file__).parents[2]


def poses(line: dict[str, Any]) -> npt.NDArray[np.float64]:
    return np.array([person["keypoints"] for person in line["people"]], np.float64).reshape(-1, 14, 3)


def test_an_image_is_drawn_on_and_its_people_are_written(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = exported
    image = cv2.GaussianBlur(noise(0, 500, 640), (0, 0), 5).astype(np.uint8)  # smooth, so that a JPEG keeps it
    save_image(tmp_path / "one.png", image)
    out = tmp_path / "out"
    people = model.predict(image)
    threshold = float(np.median(people.poses[..., 2]))
    options = ("--output", out, "--min-score", 0, "--min-keypoint", threshold)
    assert run(monkeypatch, folder, tmp_path / "one.png", *options) == 0
    assert len(people.scores) > 0
    (line,) = lines(out)
    assert {key: value for key, value in line.items() if key != "people"} == {
        "image_id": 1,
        "source": str(tmp_path / "one.png"),
        "width": 640,
        "height": 500,
        "drawing": "one.jpg",
    }
    np.testing.assert_allclose(poses(line), people.poses, atol=1e-3)
    np.testing.assert_allclose([person["score"] for person in line["people"]], people.scores, atol=1e-4)
    drawn = read_image(out / "one.jpg")
    expected = draw_people(image, people.poses, model.keypoints, threshold)
    assert distance(drawn, expected) < 0.2 * distance(drawn, image)
    with_guesses = draw_people(image, people.poses, model.keypoints)
    apart = (expected != with_guesses).any(axis=2)
    assert distance(drawn[apart], expected[apart]) < 0.5 * distance(drawn[apart], with_guesses[apart])
    figures = summary(out)
    assert figures["keypoints"] == list(model.keypoints.names)
    assert (figures["num_images"], figures["num_people"]) == (1, len(people.scores))


def test_people_below_the_score_are_left_out(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = exported
    (image,) = write_images(tmp_path, ["one.png"])
    min_score = float(np.median(model.predict(image).scores))
    assert run(monkeypatch, folder, tmp_path / "one.png", "--output", tmp_path / "out", "--min-score", min_score) == 0
    assert len(lines(tmp_path / "out")[0]["people"]) == (model.predict(image).scores >= min_score).sum() > 0


def test_without_a_source_a_test_image_is_drawn_beside_the_truth(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = exported
    runs = tmp_path / "runs"
    threshold = model.settings.detection_threshold
    options = ("--dataset-index", 2, "--min-score", 0, "--min-keypoint", threshold)
    assert run(monkeypatch, folder, "--runs", runs, *options) == 0
    latest = runs / "predict" / "latest"
    assert sorted(os.listdir(latest)) == ["people.jsonl", "summary.json", "test_2.jpg"]
    example = build(model.dataset, "test")[2]
    (line,) = lines(latest)
    assert (line["source"], line["width"], line["height"]) == ("test_2", 96, 96)
    # 96 px are enlarged five times; the prediction is left of the truth.
    drawn = read_image(latest / "test_2.jpg")
    enlarged = np.asarray(cv2.resize(example.image, (480, 480), interpolation=cv2.INTER_CUBIC), np.uint8)
    for side, people, minimum in ((drawn[:, :480], poses(line), threshold), (drawn[:, -480:], example.people, 0.0)):
        expected = draw_people(enlarged, people * [5, 5, 1], model.keypoints, minimum)
        assert distance(side, expected) < 0.5 * distance(side, enlarged)


def test_runs_of_one_second_get_folders_of_their_own(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stopped":
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr("supernet.cli.arguments.datetime", Stopped)
    for _ in range(3):
        assert run(monkeypatch, exported[1], "--runs", tmp_path / "runs") == 0
    folder = tmp_path / "runs" / "predict"
    names = ["2026-01-02_03-04-05", "2026-01-02_03-04-05_2", "2026-01-02_03-04-05_3"]
    assert sorted(os.listdir(folder)) == [*names, "latest"]
    assert (folder / "latest").resolve().name == names[-1]
    assert all((folder / name / "people.jsonl").exists() for name in names)


def test_a_folder_taken_while_a_run_begins_is_left_to_the_other(tmp_path: Path) -> None:
    options = argparse.Namespace(folder=tmp_path / "predict" / "now", is_default_folder=True)
    with reserved_folder(options):
        other = argparse.Namespace(folder=tmp_path / "predict" / "now", is_default_folder=True)
        with suppress(RuntimeError), reserved_folder(other):
            assert other.folder == tmp_path / "predict" / "now_2"
            raise RuntimeError
        named = argparse.Namespace(folder=options.folder, is_default_folder=False)
        with pytest.raises(UserError, match="exists already"), reserved_folder(named):
            pass
    assert os.listdir(tmp_path / "predict") == ["now"]


def test_every_kind_of_image_is_used_and_broken_ones_are_named(
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    write_images(images, ["b.png", "j.jpg"])
    plain = noise(5)
    grey = plain[..., 0]
    kinds: dict[str, npt.NDArray[np.integer]] = {
        "deep": plain.astype(np.uint16) * 257,
        "grey": grey,
        "clear": np.dstack([plain, grey]),
        "one": plain[:1, :1],
    }
    for name, image in kinds.items():
        cv2.imwrite(str(images / f"{name}.png"), image)
    (images / "a_broken.jpg").write_bytes(b"<html>")
    (images / "cut.jpg").write_bytes((images / "j.jpg").read_bytes()[:2000])
    (images / "z_empty.png").write_bytes(b"")
    assert run(monkeypatch, exported[1], images, tmp_path / "nowhere.png", "--output", out, "--batch-size", 3) == 1
    skipped = [message for message in caplog.messages if message.startswith("skipped: ")]
    for name in ("a_broken.jpg", "cut.jpg", "z_empty.png", "nowhere.png"):
        assert any(f"/{name}" in message for message in skipped)
    assert len(skipped) == 4
    assert "not read, or only in part: 4" in capsys.readouterr().out
    assert len(summary(out)["refused"]) == 4
    used = ["b", "clear", "deep", "grey", "j", "one"]
    assert [(line["image_id"], Path(line["source"]).stem) for line in lines(out)] == list(enumerate(used, start=1))
    assert sorted(os.listdir(out)) == sorted([*(f"{name}.jpg" for name in used), "people.jsonl", "summary.json"])


def test_names_that_are_not_utf_8_do_no_harm(
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_images(tmp_path / "[red]images[", ["a.png"])
    write_video(tmp_path / "b.mp4", 2)
    try:
        os.rename(tmp_path / "[red]images[" / "a.png", os.fsencode(tmp_path) + b"/[red]images[/\xe9.png")
        os.rename(tmp_path / "b.mp4", os.fsencode(tmp_path) + b"/[red]images[/\xe9.mp4")
    except OSError:
        pytest.skip("this file system has no such names")
    assert run(monkeypatch, exported[1], tmp_path / "[red]images[", "--output", tmp_path / "out") == 1
    (line,) = lines(tmp_path / "out")
    assert os.fsencode(line["source"]).endswith(b"/[red]images[/\xe9.png")
    assert any("\\udce9.mp4' has a name that is not UTF-8" in message for message in caplog.messages)
    assert "[red]images[/\\udce9.png: " in capsys.readouterr().out


@pytest.mark.parametrize("num_broken", [1, 3])
def test_where_nothing_can_be_used_nothing_is_written(
    num_broken: int,
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(num_broken):
        (tmp_path / f"{number}.png").write_bytes(b"")
    assert run(monkeypatch, exported[1], tmp_path, "--runs", tmp_path / "runs", "--results", tmp_path / "r.json") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    only_one = f"error: image {tmp_path / '0.png'} cannot be decoded"
    assert error.startswith(only_one if num_broken == 1 else "error: none of 3 sources could be read")
    assert sorted(os.listdir(tmp_path)) == [f"{number}.png" for number in range(num_broken)]


def test_names_stay_apart_and_nothing_is_overwritten(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, ["one.png", "deeper/one.png", "deeper/ONE_2.png"])
    arguments = (tmp_path / "one.png", tmp_path / "deeper", "--output", tmp_path / "out")
    assert run(monkeypatch, exported[1], *arguments) == 0
    assert [line["drawing"] for line in lines(tmp_path / "out")] == ["one.jpg", "ONE_2.jpg", "one_3.jpg"]
    for option in ("--output", "--results", "--jsonl"):
        taken = tmp_path / "one.png"
        assert run(monkeypatch, exported[1], taken, "--runs", tmp_path / "runs", option, taken) == 2
        assert f"{taken} exists already" in capsys.readouterr().err
    new = tmp_path / "new.json"
    assert run(monkeypatch, exported[1], taken, "--runs", tmp_path / "runs", "--results", new, "--jsonl", new) == 2
    assert "--results and --jsonl both name" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_time_is_reported_by_step(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, ["a.png", "b.png", "c.png"])
    assert run(monkeypatch, exported[1], tmp_path, "--output", tmp_path / "out") == 0
    figures = summary(tmp_path / "out")
    parts = figures["seconds_by_part"]
    assert list(parts) == ["decode", "resize", "network", "grouping", "drawing", "writing"]
    assert sum(parts.values()) == pytest.approx(figures["seconds"], abs=0.01)
    assert figures["frames_per_second"] == pytest.approx(3 / figures["seconds"], rel=0.05)
    output = capsys.readouterr().out
    assert "frames/s: decode " in output
    assert " %, network " in output


def test_batches_do_not_change_the_people(exported: Exported) -> None:
    model, _ = exported
    images = [noise(seed, *size) for seed, size in enumerate([(120, 160), (64, 64), (120, 160), (200, 70), (64, 64)])]
    for image, people in zip(images, model.predict_all(images, 0.05), strict=True):
        alone = model.predict(image, 0.05)
        assert len(alone.scores) > 0
        np.testing.assert_allclose(people.poses, alone.poses, atol=1e-3)
        np.testing.assert_allclose(people.scores, alone.scores, atol=1e-5)
    assert model.predict_all([]) == []


def test_several_images_are_any_collection_of_what_one_may_be(exported: Exported, tmp_path: Path) -> None:
    model, _ = exported
    images = [noise(seed, 96, 64) for seed in range(3)]
    save_image(tmp_path / "0.png", images[0])
    mixed: list[Any] = [tmp_path / "0.png", PIL.Image.fromarray(images[1]), images[2]]
    expected = model.predict_all(images)
    collections: list[Any] = [(image for image in images), np.stack(images), mixed, map(np.asarray, images)]
    for given in collections:
        for people, alone in zip(model.predict_all(given), expected, strict=True):
            np.testing.assert_array_equal(people.poses, alone.poses)
    for wrong in (images[0], tmp_path / "0.png", mixed[1], None):
        with pytest.raises(UserError, match="list"):
            model.predict_all(wrong)  # type: ignore[arg-type]


def test_a_pass_of_any_runtime_takes_a_bounded_number_of_images_and_a_generator_is_read_as_it_goes(
    exported: Exported,
) -> None:
    read, passes = [], []

    def images() -> Iterator[npt.NDArray[np.uint8]]:
        for number in range(70):
            read.append(number)
            yield noise(number, 64, 64)

    def runtime(inputs: Tensor) -> tuple[Tensor, Tensor]:
        passes.append((len(inputs), len(read)))
        low, high = exported[0].network(normalise(inputs))
        return low, high

    model = replace(exported[0], runtime=cast(Runtime, runtime))
    assert len(model.predict_all(images())) == 70
    assert max(size for size, _ in passes) <= 32
    assert passes[0][1] <= 32
    passes.clear()
    model.predict_all([noise(0, 600, 64)] * 30)  # long strips
    strips = resized_size(64, 600, model.arch.resolution, model.settings.size_divisor)
    assert max(size for size, _ in passes) * strips[0] * strips[1] <= CPU_PIXELS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset-index", "3"], "--dataset-index must be less than 3"),
        (["--dataset-index", "-1"], "'-1'"),
        (["a.png", "--dataset-index", "1"], "sources or --dataset-index"),
        (["a.png", "--dataset-root", "/"], "sources or --dataset-root"),
        (["--min-score", "nan"], "'nan'"),
        (["--dataset-root", "/"], "'synthetic'"),
        (["."], "folder . "),
        (["*.png"], "pattern *.png "),
        (["--limit", "0"], "'0'"),
        (["--jsonl"], "--jsonl"),
        (["--results", "-"], "--results"),
        (["--output", "out", "--jsonl", "out/people.jsonl"], "out/people.jsonl"),
        (["--output", "out", "--results", "out/summary.json"], "out/summary.json"),
    ],
)
def test_a_user_error_is_reported(
    arguments: list[str],
    message: str,
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, exported[1], "--runs", "runs", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert os.listdir(tmp_path) == []


def test_images_are_turned_as_viewers_show_them_unless_results_are_compared_with_stored_ones(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = exported
    (tmp_path / "1.jpg").write_bytes(with_orientation(noise(0, 120, 160), 6))
    stored_set = replace(model, dataset={"kind": "coco", "root": "/absent", "keypoints": "crowdpose"})
    turned_set = replace(model, dataset={**stored_set.dataset, "exif": "turned"})
    for name, value in (("stored", stored_set), ("turned", turned_set)):
        save_model(tmp_path / name, value)
    results = ("--results", "RESULTS")
    for number, (folder, arguments, size) in enumerate(
        [
            ("stored", (), (120, 160)),
            ("stored", ("--exif", "stored"), (160, 120)),
            ("stored", results, (160, 120)),
            ("turned", results, (120, 160)),
            ("turned", (*results, "--exif", "stored"), (160, 120)),
        ]
    ):
        out = tmp_path / f"out{number}"
        own = [str(tmp_path / f"{number}.json") if word == "RESULTS" else word for word in arguments]
        assert run(monkeypatch, tmp_path / folder, tmp_path / "1.jpg", *own, "--no-drawings", "--output", out) == 0
        (line,) = lines(out)
        assert (line["width"], line["height"]) == size, arguments
