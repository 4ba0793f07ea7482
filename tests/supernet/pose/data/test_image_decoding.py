"""Reading image files: every format becomes 8-bit RGB; errors for damaged files name the file."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from supernet.errors import UserError
from supernet.pose.data import image_decoding as module
from supernet.pose.data.image_decoding import BadImage, decode_image, read_image


def encoded(suffix: str) -> bytes:
    rng = np.random.default_rng(0)
    _, content = cv2.imencode(suffix, rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    return content.tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_truncated_images_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    content = encoded(suffix)
    path = tmp_path / f"image{suffix}"
    path.write_bytes(content)
    assert read_image(path).shape == (50, 70, 3)
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=f"image{suffix}"):
        read_image(path)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("film", [b"\xff\xda", b"\xff\xd9 and \xff\xda", encoded(".jpg")[:500]])
def test_what_a_camera_appends_to_an_image_does_not_matter(film: bytes, strict: bool) -> None:
    content = encoded(".jpg")
    expected = decode_image(content, "image.jpg", strict=strict)
    np.testing.assert_array_equal(decode_image(content + film, "image.jpg", strict=strict), expected)


def test_a_thumbnail_does_not_end_an_image() -> None:
    content, thumbnail = encoded(".jpg"), encoded(".jpg")
    block = b"\xff\xe1" + (len(thumbnail) + 8).to_bytes(2, "big") + b"Exif\0\0" + thumbnail
    whole = content[:2] + block + content[2:]
    np.testing.assert_array_equal(decode_image(whole, "image.jpg"), decode_image(content, "image.jpg"))
    with pytest.raises(UserError, match="truncated"):
        decode_image(whole[:-200], "image.jpg")


def test_files_that_are_not_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    for name in ("page.jpg", "absent.jpg", "."):
        with pytest.raises(UserError):
            read_image(tmp_path / name)


def test_grey_deep_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    deep, clear = grey.astype(np.uint16) * 257, np.dstack([grey, grey, grey, grey])
    images: dict[str, npt.NDArray[np.integer]] = {"grey": grey, "deep": deep, "clear": clear}
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        read = read_image(tmp_path / f"{name}.png")
        assert read.dtype == np.uint8
        assert np.abs(read.astype(int) - grey[..., None]).max() <= 1


def test_the_exif_orientation_is_ignored_unless_upright(tmp_path: Path) -> None:
    # An EXIF block that says orientation 6 (turn right): one entry, tag 0x0112, type SHORT, count 1.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    content = encoded(".jpg")
    block = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "turned.jpg").write_bytes(content[:2] + block + content[2:])
    assert read_image(tmp_path / "turned.jpg").shape == (50, 70, 3)
    assert read_image(tmp_path / "turned.jpg", upright=True).shape == (70, 50, 3)


def saved(image: PIL.Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


def png_with_size(width: int, height: int) -> bytes:
    """A PNG of a few dozen bytes whose header gives any size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("mode", "file_format"), [("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "WEBP"), ("L", "PNG"), ("1", "PNG")]
)
def test_images_of_all_colour_spaces_become_rgb(mode: str, file_format: str, strict: bool) -> None:
    grey = np.full((40, 60), 255, np.uint8)
    grey[:, :30] = 64 * (mode != "1")
    content = saved(PIL.Image.fromarray(np.dstack([grey] * 3)).convert(mode), file_format)
    read = decode_image(content, "image", strict=strict)
    assert read.shape == (40, 60, 3)
    assert read.dtype == np.uint8
    # Approximately: JPEG is lossy, and CMYK has no profile.
    assert np.abs(read.astype(int) - grey[..., None]).mean() < 4


def test_strict_reading_gives_the_same_pixels() -> None:
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (161, 121), interpolation=cv2.INTER_CUBIC)
    for image in (smooth, smooth[..., 0]):
        for quality, progressive, sampling in ((95, 0, 0x411111), (60, 1, 0x111111), (80, 0, 0x221111)):
            options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
            options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
            content = cv2.imencode(".jpg", image, options)[1].tobytes()
            assert np.array_equal(decode_image(content, "a"), decode_image(content, "a", strict=True))


def test_inconsistent_data_are_damage_only_when_strict() -> None:
    content = bytearray(encoded(".jpg"))
    start = content.rfind(b"\xff\xda") + 20
    content[start : start + 300] = bytes(300)
    assert decode_image(bytes(content), "a.jpg").shape == (50, 70, 3)
    with pytest.raises(BadImage, match=r"image a\.jpg is damaged \(.+\)") as caught:
        decode_image(bytes(content), "a.jpg", strict=True)
    assert caught.value.kind == "damaged"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (64, 1), (1, 64), (6400, 100)])
def test_small_and_long_images_are_read(width: int, height: int) -> None:
    content = cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1].tobytes()
    assert decode_image(content, "a.png").shape == (height, width, 3)


@pytest.mark.parametrize(
    ("width", "height"),
    [(20_000, 20), (20, 20_000), (65, 1), (32_767, 4_000), (12_000, 12_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)],
)
def test_impossible_sizes_are_refused_before_they_are_decoded(
    width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(BadImage, match=r"image a\.png is \d+ x \d+; at most") as caught:
        decode_image(png_with_size(width, height), "a.png")
    assert caught.value.kind == "impossible_size"


@pytest.mark.parametrize(
    "content",
    [b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 16000 +X 16000\n", b"PF\n16000 16000\n-1\n", b"P7\nWIDTH 9\n"],
)
def test_formats_whose_header_hides_the_size_are_refused(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(BadImage, match=r"image a\.hdr cannot be decoded"):
        decode_image(content, "a.hdr")


def test_files_too_large_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(bytes(100))
    monkeypatch.setattr(module, "MAX_BYTES", 99)
    with pytest.raises(BadImage, match=r"a\.png has 100 bytes.*\b99\b"):
        read_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore:::PIL")
def test_random_header_bytes_raise_nothing_but_bad_image() -> None:
    rng = np.random.default_rng(0)
    for suffix in (".jpg", ".png", ".bmp", ".webp", ".tiff", ".gif"):
        content = encoded(suffix)
        for _ in range(60):
            changed = bytearray(content)
            for place in rng.integers(0, min(len(changed), 200), 4):
                changed[place] = rng.integers(256)
            for strict in (False, True):
                with contextlib.suppress(BadImage):
                    decode_image(bytes(changed), "image", strict=strict)
