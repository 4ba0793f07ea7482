"""Reading picture files: every kind becomes 8-bit RGB, and damaged ones are refused by name."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from supernet.errors import UserError
from supernet.pose.pictures import read_picture


def encoded(suffix: str) -> bytes:
    rng = np.random.default_rng(0)
    _, content = cv2.imencode(suffix, rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    return content.tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_cut_pictures_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    content = encoded(suffix)
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(content)
    assert read_picture(path).shape == (50, 70, 3)
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=f"picture{suffix}"):
        read_picture(path)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    for name in ("page.jpg", "absent.jpg", "."):
        with pytest.raises(UserError):
            read_picture(tmp_path / name)


def test_grey_deep_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    deep, clear = grey.astype(np.uint16) * 257, np.dstack([grey, grey, grey, grey])
    pictures: dict[str, npt.NDArray[np.integer]] = {"grey": grey, "deep": deep, "clear": clear}
    for name, picture in pictures.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
        read = read_picture(tmp_path / f"{name}.png")
        assert read.dtype == np.uint8
        assert np.abs(read.astype(int) - grey[..., None]).max() <= 1


def test_the_camera_s_turn_is_ignored_unless_asked_for(tmp_path: Path) -> None:
    # An EXIF block that says orientation 6 (turn right): one entry, tag 0x0112, type SHORT, count 1.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    content = encoded(".jpg")
    block = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "turned.jpg").write_bytes(content[:2] + block + content[2:])
    assert read_picture(tmp_path / "turned.jpg").shape == (50, 70, 3)
    assert read_picture(tmp_path / "turned.jpg", upright=True).shape == (70, 50, 3)
