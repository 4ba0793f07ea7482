"""The window shows each drawing and ends the run when it is closed; without windows there is an error."""

import sys
from pathlib import Path

import cv2
import pytest

from subnet_export.exported_model import ExportedModel
from tests.helpers.prediction import Image, lines, run, write_images, write_video

Exported = tuple[ExportedModel, Path]


class FakeWindow:
    """Records what is shown, and ends the run after ``max_images`` images."""

    max_images = 2
    shown: list[tuple[tuple[int, ...], bool]]

    def __init__(self) -> None:
        FakeWindow.shown = []

    def show(self, image: Image, wait: bool) -> bool:
        self.shown.append((image.shape, wait))
        return len(self.shown) < self.max_images

    def close(self) -> None:
        self.shown.append(((), False))


def test_a_window_shows_each_drawing_until_it_is_closed(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subnet_export.prediction.writer.Window", FakeWindow)
    write_images(tmp_path, ["a.png"])
    write_video(tmp_path / "b.mp4", 9)
    arguments = ("--show", "--no-drawings", "--output", tmp_path / "out")
    assert run(monkeypatch, exported[1], tmp_path, *arguments) == 0  # closing the window is not an error
    # 120 x 160 px are enlarged four times; an image waits for a key, a video does not.
    assert FakeWindow.shown == [((480, 640, 3), True), ((64, 96, 3), False), ((), False)]
    assert len(lines(tmp_path / "out")) == 2


@pytest.mark.parametrize(("display", "message"), [(None, "DISPLAY"), (":0", "opencv-python-headless")])
def test_a_machine_without_windows_is_an_error(
    display: str | None,
    message: str,
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_windows(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "namedWindow", no_windows)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    write_images(tmp_path, ["a.png"])
    assert run(monkeypatch, exported[1], tmp_path / "a.png", "--show", "--runs", tmp_path / "runs") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "runs").exists()
