"""What a command line names becomes images of any kind, or an error that names what is wrong."""

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import cv2
import numpy as np
import PIL.Image
import pytest

from subnet_export.prediction.result_ids import ids_from_names
from subnet_export.prediction.sources import Frame, Source, list_sources, read_frames
from supernet.errors import UserError
from supernet.pose.data.image_decoding import IMAGE_SUFFIXES
from supernet.pose.data.pose_dataset import ImageId
from tests.helpers.prediction import FakeCamera, noise, write_images, write_video


def listed(*places: object) -> list[tuple[str, str]]:
    return [(source.kind, source.name) for source in list_sources([str(place) for place in places])]


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False))


def test_folders_and_patterns_give_their_images_and_videos_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.JPG", "a.png", "clip.MP4", "notes.txt", ".hidden.png", "deeper/c.png", "7", "x[1].png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"")
    assert listed(".") == [
        ("image", "./a.png"),
        ("image", "./b.JPG"),
        ("video", "./clip.MP4"),
        ("image", "./x[1].png"),
    ]
    assert listed("**/*.png") == [("image", "a.png"), ("image", "deeper/c.png"), ("image", "x[1].png")]
    assert listed("*", "deeper") == [*[(kind, name[2:]) for kind, name in listed(".")], ("image", "deeper/c.png")]
    assert listed("x[1].png", "nowhere.png") == [("image", "x[1].png"), ("image", "nowhere.png")]
    assert listed("7") == [("image", "7")]  # a file of that name takes precedence
    assert listed("0") == [("camera", "0")]
    assert listed("-") == [("stdin", "-")]


def test_a_pattern_in_a_folder_whose_name_has_its_signs_gives_the_files_of_that_folder(tmp_path: Path) -> None:
    for folder in ("dir [1]", "dir 1", "b[ab]*", "ba"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        for name in ("a.png", "b.jpg", "deep/c.png"):
            (tmp_path / folder / name).write_bytes(b"")
    for folder in ("dir [1]", "b[ab]*"):
        assert listed(tmp_path / folder / "*.png") == [("image", str(tmp_path / folder / "a.png"))]
        assert len(listed(tmp_path / folder / "**" / "*.png")) == 2
    assert len(listed(tmp_path / "dir ?" / "*.png")) == 1  # no folder of that name, so it is a pattern
    assert len(listed(tmp_path / "dir*" / "*.png")) == 2


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["empty"], "folder empty"),
        (["*.gif"], r"pattern \*.gif"),
        (["a.png", "-"], r"standard input \(-\)"),
        (["-", "-"], r"standard input \(-\)"),
        (["0", "1"], "a camera"),
        (["http://localhost/clip.mp4"], r"http://localhost/clip\.mp4 is an address"),
        (["a.png", "RTSP://127.0.0.1:9/x"], r"RTSP://127\.0\.0\.1:9/x is an address"),
    ],
)
def test_places_that_give_nothing_are_named(
    places: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        list_sources(places)


def test_a_folder_of_folders_is_named_with_the_pattern_that_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("shots [1]/a/x.png", "shots [1]/b/deep/x.png"):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_bytes(b"")
    with pytest.raises(UserError) as caught:
        list_sources(["shots [1]"])
    pattern = str(caught.value).split("'")[1]
    assert listed(pattern) == [("image", "shots [1]/a/x.png"), ("image", "shots [1]/b/deep/x.png")]


def test_folders_beside_images_are_not_read_and_a_warning_names_the_pattern_that_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("shots/x.png", "shots/.thumbnails/x.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")
    assert listed("shots") == [("image", "shots/x.png")]
    assert not caplog.messages
    Path("shots/deep").mkdir()
    Path("shots/deep/y.png").write_bytes(b"")
    assert listed("shots") == [("image", "shots/x.png")]
    (message,) = caplog.messages
    assert listed(message.split("'")[1]) == [("image", "shots/deep/y.png"), ("image", "shots/x.png")]


def test_a_piped_image_is_read_from_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise()
    piped(monkeypatch, cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    (frame,) = read_frames(Source("-", "stdin"))
    np.testing.assert_array_equal(frame.image, image)
    assert frame.number is None
    for content in (b"", b"photo.jpg\n"):
        piped(monkeypatch, content)
        with pytest.raises(UserError, match="standard input cannot be decoded"):
            list(read_frames(Source("-", "stdin")))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(UserError, match="terminal"):
        list(read_frames(Source("-", "stdin")))


@pytest.mark.parametrize(("name", "kind"), [("long.png", "image"), ("long.gif", "video")])
@pytest.mark.parametrize(
    ("width", "height", "fits"), [(640, 10, True), (641, 10, False), (1, 64, True), (1, 65, False)]
)
def test_very_long_images_are_refused(
    name: str, kind: Literal["image", "video"], width: int, height: int, fits: bool, tmp_path: Path
) -> None:
    PIL.Image.new("RGB", (width, height)).save(tmp_path / name)
    source = Source(str(tmp_path / name), kind)
    if fits:
        assert [frame.image.shape for frame in read_frames(source)] == [(height, width, 3)]
    else:
        with pytest.raises(UserError, match=rf"{name} .*64.*crop it"):
            list(read_frames(source))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi"])
def test_a_video_gives_its_frames_in_order_with_their_times(name: str, tmp_path: Path) -> None:
    write_video(tmp_path / name, 6, (96, 64), fps=5.0)
    frames = list(read_frames(Source(str(tmp_path / name), "video")))
    assert [frame.number for frame in frames] == list(range(6))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 5 for number in range(6)])
    assert {(frame.image.shape, frame.fps, frame.num_frames) for frame in frames} == {((64, 96, 3), 5.0, 6)}
    assert [frame.image.mean() for frame in frames] == pytest.approx([20 + 10 * n for n in range(6)], abs=4)


def test_broken_videos_are_named_after_what_could_be_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "whole.avi", 20, (320, 240))
    write_video(tmp_path / "empty.avi", 0)
    content = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.mp4").write_text("no video")
    for name, message, max_frames in (
        ("nowhere.mp4", r"nowhere\.mp4: there is no such file", 0),
        ("text.mp4", r"text\.mp4 cannot be opened", 0),
        ("empty.avi", r"empty\.avi (has no frame|cannot be opened)", 0),
        ("cut.avi", r"cut\.avi is damaged.* 1?\d of 20 frames", 18),
    ):
        frames: list[Frame] = []
        with pytest.raises(UserError, match=message):
            frames.extend(read_frames(Source(str(tmp_path / name), "video")))
        assert len(frames) <= max_frames
        assert (len(frames) > 0) == (max_frames > 0)
    assert "moov" not in capfd.readouterr().err  # part of the decoder's own message


def test_a_camera_gives_images_until_it_is_left_or_unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera(3)
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: camera if number == 2 else FakeCamera(0))
    stream = read_frames(Source("2", "camera"))
    frames = [next(stream), next(stream)]
    assert [frame.number for frame in frames] == [0, 1]
    assert 0 <= frames[0].time_s <= frames[1].time_s
    assert frames[0].fps == 25.0
    next(stream)
    with pytest.raises(UserError, match="camera 2 stopped after 3 images"):
        next(stream)
    assert camera.released
    with pytest.raises(UserError, match="camera 5 cannot be opened"):
        next(read_frames(Source("5", "camera")))


def test_a_vanished_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png"])
    (source,) = list_sources([str(tmp_path / "a.png")])
    os.remove(source.name)
    with pytest.raises(UserError, match=r"a\.png: No such file"):
        list(read_frames(source))


def test_images_are_numbered_by_their_names_only_if_all_can_be() -> None:
    def numbers(*names: str, kind: Any = "image") -> dict[str, ImageId]:
        return ids_from_names([Source(name, kind) for name in names])

    assert numbers("a/000139.jpg", "b/7.png") == {"a/000139.jpg": 139, "b/7.png": 7}
    assert numbers("139.jpg", "photo.jpg") == {}
    assert numbers("a/7.jpg", "b/07.png") == {}
    assert numbers("a/7.jpg", "a/7.jpg") == {}
    assert numbers("7.mp4", kind="video") == {}


def test_folders_give_every_format_that_single_files_may_have(tmp_path: Path) -> None:
    image = PIL.Image.fromarray(noise())
    for suffix in IMAGE_SUFFIXES:
        path = tmp_path / f"x{suffix}"
        (image.convert("1") if suffix == ".pbm" else image).save(path)
        (frame,) = read_frames(Source(str(path), "image"))
        assert frame.image.shape == (120, 160, 3), suffix
    assert sorted(listed(tmp_path)) == sorted(("image", str(tmp_path / f"x{suffix}")) for suffix in IMAGE_SUFFIXES)
    image.save(tmp_path / "photo.tga")
    with pytest.raises(UserError, match=r"photo\.tga cannot be decoded .*convert it: \.jpg"):
        list(read_frames(Source(str(tmp_path / "photo.tga"), "image")))


@pytest.mark.parametrize(
    ("delays", "times"), [(None, [0, 0.1, 0.2]), (0, [0, 0.1, 0.2]), ([40, 80, 20], [0, 0.04, 0.12])]
)
def test_a_gif_gives_all_frames_with_or_without_delays(delays: Any, times: list[float], tmp_path: Path) -> None:
    images = [np.full((64, 96, 3), level, np.uint8) for level in (40, 120, 200)]
    first, *rest = map(PIL.Image.fromarray, images)
    options = {} if delays is None else {"duration": delays}
    first.save(tmp_path / "x.gif", save_all=True, append_images=rest, **options)
    frames = list(read_frames(Source(str(tmp_path / "x.gif"), "video")))
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert [frame.time_s for frame in frames] == pytest.approx(times)
    for frame, image in zip(frames, images, strict=True):
        assert frame.num_frames == 3
        np.testing.assert_array_equal(frame.image, image)
    content = (tmp_path / "x.gif").read_bytes()
    (tmp_path / "text.gif").write_text("no image")
    (tmp_path / "cut.gif").write_bytes(content[:60])
    for name in ("text.gif", "cut.gif", "absent.gif"):
        with pytest.raises(UserError, match=name):
            list(read_frames(Source(str(tmp_path / name), "video")))
