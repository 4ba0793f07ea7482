"""The EXIF orientation is read from the start of a file, and turns images as other programs do."""

import io

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
import pytest

from supernet.pose.data.exif import orientation_of, read_header, turn
from supernet.pose.data.image_decoding import decode_image

Image = npt.NDArray[np.uint8]


def gradient(height: int = 48, width: int = 32) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)


def with_orientation(image: Image, orientation: int, file_format: str = "JPEG") -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, file_format, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_upright_images_are_those_of_opencv_and_pillow(orientation: int, file_format: str) -> None:
    content = with_orientation(gradient(), orientation, file_format)
    upright = decode_image(content, "x", upright=True)
    opencv = np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR))
    assert np.array_equal(upright, opencv[..., ::-1])
    pillow = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(content))))
    assert upright.shape == pillow.shape
    assert np.abs(upright.astype(int) - pillow).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_pillow_s(orientation: int) -> None:
    image = gradient()
    pillow = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(with_orientation(image, orientation, "PNG"))))
    assert np.array_equal(turn(image, orientation), np.asarray(pillow))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_s_header_is_read_from_its_start(orientation: int) -> None:
    content = with_orientation(gradient(), orientation)
    header = read_header(content[:600])
    assert (header.orientation, header.size) == (orientation, (32, 48))
    assert header.turned_size == ((48, 32) if orientation > 4 else (32, 48))
    for end in range(600):
        assert read_header(content[:end]).orientation in (None, 1, orientation)


def test_damaged_and_unknown_blocks_count_as_none() -> None:
    content = with_orientation(gradient(), 6)
    place = content.index(b"\x01\x12\x00\x03")
    assert orientation_of(content[: place + 8] + b"\0\x09" + content[place + 10 :]) == 1
    assert orientation_of(content.replace(b"MM\0*", b"XX\0*")) == 1
    assert orientation_of(b"") == orientation_of(b"no image") == 1
    plain = io.BytesIO()
    for file_format in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM"):
        PIL.Image.fromarray(gradient()).save(plain, file_format)
        assert orientation_of(plain.getvalue()) == 1
