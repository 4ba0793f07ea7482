"""Prediction on videos, cameras and pipes: frame by frame, until the end or until the user stops it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

from subnet_export.exported_model import ExportedModel
from subnet_export.prediction import sources
from tests.helpers.prediction import FakeCamera, distance, lines, read_video, run, summary, write_images, write_video

Exported = tuple[ExportedModel, Path]
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("size", [(96, 64), (48, 32)])
def test_a_video_is_drawn_frame_by_frame(
    size: tuple[int, int], exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "clip.mp4", 7, size, fps=5.0)
    out = tmp_path / "out"
    assert run(monkeypatch, exported[1], tmp_path / "clip.mp4", "--output", out, "--min-score", 1) == 0
    drawings, fps = read_video(out / "clip.mp4")
    assert (len(drawings), fps, {image.shape for image in drawings}) == (7, 5.0, {(size[1], size[0], 3)})
    assert np.diff([image.mean() for image in drawings]) == pytest.approx([10] * 6, abs=3)
    assert [(line["frame"], line["time_s"], line["drawing"]) for line in lines(out)] == [
        (number, number / 5, "clip.mp4") for number in range(7)
    ]
    assert sorted(os.listdir(out)) == ["clip.mp4", "people.jsonl", "summary.json"]


@pytest.mark.parametrize(
    ("delays", "fps", "shown"),
    [
        ([500, 100, 200], 10.0, [5, 1, 2]),
        ([40, 80, 20], 50.0, [2, 4, 1]),
        ([50, 130, 110], 25.0, [1, 4, 2]),
        ([60, 40, 50], 25.0, [2, 1, 1]),
    ],
)
def test_a_drawn_gif_shows_each_frame_as_long_as_the_gif_does(
    delays: list[int],
    fps: float,
    shown: list[int],
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    levels = (40, 120, 200)
    first, *rest = (PIL.Image.fromarray(np.full((64, 96, 3), level, np.uint8)) for level in levels)
    first.save(tmp_path / "x.gif", save_all=True, append_images=rest, duration=delays)
    out = tmp_path / "out"
    assert run(monkeypatch, exported[1], tmp_path / "x.gif", "--output", out, "--min-score", 1) == 0
    drawings, rate = read_video(out / "x.mp4")
    expected = [level for level, number in zip(levels, shown, strict=True) for _ in range(number)]
    assert rate == fps
    assert [image.mean() for image in drawings] == pytest.approx(expected, abs=5)
    assert len(lines(out)) == 3


def test_sides_of_a_video_are_made_even_and_each_source_has_its_own(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.dstack([np.linspace(50, 200, 97, dtype=np.uint8)[None].repeat(61, 0)] * 3)

    def odd_frames(source: sources.Source) -> Any:
        for number in range(3):
            if source.name.endswith("b.avi") and number > 0:
                assert (out / "a.mp4").exists()  # closed as soon as the next video begins
            yield sources.Frame(source, image, number, number / 10, 10.0)

    out = tmp_path / "out"
    monkeypatch.setattr("subnet_export.prediction.run.read_frames", odd_frames)
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.avi").touch()
    assert run(monkeypatch, exported[1], tmp_path, "--output", out, "--min-score", 1, "--batch-size", 4) == 0
    even = np.pad(image, [(0, 1), (0, 1), (0, 0)], mode="edge")
    for name in ("a.mp4", "b.mp4"):
        drawings, fps = read_video(out / name)
        assert (len(drawings), fps) == (3, 10.0)
        for drawing in drawings:
            assert drawing.shape == (62, 98, 3)
            assert distance(drawing, even) < 8
            assert distance(drawing[:, -1:], even[:, -1:]) < 8
    assert [line["source"][-5:] for line in lines(out)] == ["a.mp4"] * 3 + ["b.avi"] * 3


def test_a_camera_s_video_is_in_real_time_and_limit_ends_it(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: FakeCamera(100))
    seconds = iter(np.arange(0.0, 1e3, 0.1))
    monkeypatch.setattr(sources, "time", type("Clock", (), {"perf_counter": staticmethod(lambda: next(seconds))}))
    out = tmp_path / "out"
    assert run(monkeypatch, exported[1], 3, "--output", out, "--limit", 5) == 0
    monkeypatch.undo()
    assert len(lines(out)) == 5
    drawings, fps = read_video(out / "camera_3.mp4")
    # The fifth image came after 0.5 s; at 25 frames/s twelve whole frames lie before it.
    assert (len(drawings), fps) == (13, 25.0)


def test_ctrl_c_ends_after_the_batch_and_keeps_its_results(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "clip.mp4", 40)
    read_frames = sources.read_frames

    def interrupted(source: sources.Source) -> Any:
        for frame in read_frames(source):
            if frame.number == 9:
                os.kill(os.getpid(), signal.SIGINT)
            yield frame

    monkeypatch.setattr("subnet_export.prediction.run.read_frames", interrupted)
    out, results = tmp_path / "out", tmp_path / "results.json"
    arguments = ("--output", out, "--batch-size", 4, "--results", results)
    assert run(monkeypatch, exported[1], tmp_path / "clip.mp4", *arguments) == 1
    assert len(lines(out)) == len(read_video(out / "clip.mp4")[0]) == 12
    assert isinstance(json.loads(results.read_text()), list)
    assert summary(out)["stopped"] is True
    assert "stopped before the end" in capsys.readouterr().out


def test_a_video_that_was_written_incompletely_is_an_error(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class FullDisk:
        """Writes an incomplete file without an error, as OpenCV does on a full disk."""

        fourcc = staticmethod(lambda *_: 0)
        write = release = lambda *_: None

        def __init__(self, path: str, *_: object) -> None:
            Path(path).write_bytes(b"half a video")

    write_video(tmp_path / "clip.mp4", 3)
    monkeypatch.setattr(cv2, "VideoWriter", FullDisk)
    assert run(monkeypatch, exported[1], tmp_path / "clip.mp4", "--output", tmp_path / "out") == 2
    assert f"error: cannot write video {tmp_path / 'out' / 'clip.mp4'};" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == ["people.jsonl"]


def test_limit_counts_images_of_all_sources(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    write_video(tmp_path / "c.mp4", 9)
    assert run(monkeypatch, exported[1], tmp_path, "--output", tmp_path / "out", "--limit", 5, "--batch-size", 4) == 0
    assert [Path(line["source"]).name for line in lines(tmp_path / "out")] == ["a.png", "b.png", *["c.mp4"] * 3]


def as_program(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "subnet_export.predict", "--device", "cpu", *map(str, arguments)]


@pytest.mark.slow
def test_only_lines_go_to_standard_output_and_a_closed_pipe_ends_quietly(exported: Exported, tmp_path: Path) -> None:
    write_images(tmp_path / "images", [f"{number}.png" for number in range(30)])
    arguments = ["--model", exported[1], "--jsonl", "-"]
    command = as_program(tmp_path / "images", *arguments, "--output", tmp_path / "whole")
    whole = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    assert [json.loads(line) for line in whole.stdout.splitlines()] == lines(tmp_path / "whole")
    command = as_program(tmp_path / "images", *arguments, "--output", tmp_path / "cut", "--batch-size", 1)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["image_id"] == 0
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(timeout=100) == 0
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors
    assert 1 <= summary(tmp_path / "cut")["num_images"] < 30
    with (tmp_path / "images" / "3.png").open("rb") as image:
        piped = subprocess.run(
            as_program("-", *arguments, "--output", tmp_path / "piped"),
            cwd=ROOT,
            stdin=image,
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
    line = json.loads(piped.stdout)
    assert (line["source"], line["drawing"]) == ("-", "stdin.jpg")
    assert (
        line["people"] == lines(tmp_path / "whole")[[str(n) for n in sorted(map(str, range(30)))].index("3")]["people"]
    )
