"""Images in folders and zip archives: found by name, readable in every process, errors that name the file."""

import unicodedata
import zipfile
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest

from supernet.errors import UserError
from supernet.pose.data import image_source as module
from supernet.pose.data.image_decoding import BadImage, decode_image
from supernet.pose.data.image_source import ImageArchive, image_source

CONTENT = {f"{number}.jpg": np.random.default_rng(number).bytes(300) for number in range(40)}


def archive(path: Path, inside: str = "", compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in CONTENT.items():
            file.writestr(inside + name, content)
        file.writestr("__MACOSX/._0.jpg", b"noise")
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
@pytest.mark.parametrize(
    ("inside", "place"), [("", ""), ("", "@"), ("train/", ""), ("train/", "@train"), ("a/b/", "@a/b")]
)
def test_images_are_found_at_the_top_of_an_archive_or_in_a_folder(
    tmp_path: Path, compression: int, inside: str, place: str
) -> None:
    source = image_source(f"{archive(tmp_path / 'train.zip', inside, compression)}{place}")
    assert source.read("7.jpg") == CONTENT["7.jpg"]
    assert source.describe("7.jpg") == f"{tmp_path / 'train.zip'}@{inside}7.jpg"
    assert source.size("7.jpg") == len(CONTENT["7.jpg"])
    assert source.size("40.jpg") is None


def test_names_may_begin_with_the_only_folder_of_an_archive(tmp_path: Path) -> None:
    assert image_source(archive(tmp_path / "all.zip", "train/")).read("train/7.jpg") == CONTENT["7.jpg"]
    with pytest.raises(BadImage, match=r"all\.zip@train/train/7\.jpg is not in the archive"):
        image_source(f"{tmp_path / 'all.zip'}@train").read("train/7.jpg")


NFC, NFD = unicodedata.normalize("NFC", "Zoë/Ärger.jpg"), unicodedata.normalize("NFD", "Zoë/Ärger.jpg")


@pytest.mark.parametrize(("name", "wanted"), [(NFD, NFC), (NFC, NFD)])
def test_names_are_found_in_the_other_form_of_unicode(tmp_path: Path, name: str, wanted: str) -> None:
    assert name != wanted
    (tmp_path / "train" / name).parent.mkdir(parents=True)
    (tmp_path / "train" / name).write_bytes(b"folder")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        file.writestr(f"train/{name}", b"archive")
    assert image_source(tmp_path / "train").read(wanted) == b"folder"
    for place, its_name in (("all.zip", wanted), ("all.zip", f"train/{wanted}"), ("all.zip@train", wanted)):
        assert image_source(tmp_path / place).read(its_name) == b"archive"
    for source in (image_source(tmp_path / "train"), image_source(tmp_path / "all.zip")):
        with pytest.raises(BadImage, match="Zoé"):
            source.read("Zoé.jpg")


def test_a_folder_whose_name_ends_in_zip_is_read_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "one.zip").mkdir()
    (tmp_path / "one.zip" / "1.jpg").write_bytes(b"one")
    source = image_source(tmp_path / "one.zip")
    assert source.read("1.jpg") == b"one"
    assert (source.size("1.jpg"), source.size("2.jpg")) == (3, None)


def test_errors_name_missing_folders_archives_and_images(tmp_path: Path) -> None:
    archive(tmp_path / "train.zip")
    with pytest.raises(UserError, match=r"image folder .*train does not exist; .*train\.zip"):
        image_source(tmp_path / "train")
    with pytest.raises(UserError, match=r"image folder .*val does not exist; .* a zip archive"):
        image_source(tmp_path / "val")
    with pytest.raises(UserError, match=r"cannot read the image archive .*val\.zip: No such file"):
        image_source(tmp_path / "val.zip")
    with pytest.raises(UserError, match=r"no files in the folder '\.\./x'"):
        image_source(f"{tmp_path / 'train.zip'}@../x")
    source = image_source(tmp_path / "train.zip")
    for name in ("absent.jpg", "../1.jpg", "/1.jpg"):
        with pytest.raises(BadImage, match="is not in the archive") as caught:
            source.read(name)
        assert caught.value.kind == "missing"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_truncated_archives_are_refused(tmp_path: Path, share: float) -> None:
    path = archive(tmp_path / "train.zip")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=r"image archive .*train\.zip is damaged"):
        image_source(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_entry_is_refused_and_the_others_are_read(tmp_path: Path, compression: int) -> None:
    path = archive(tmp_path / "train.zip", compression=compression)
    with zipfile.ZipFile(path) as file:
        start = file.getinfo("3.jpg").header_offset
    content = bytearray(path.read_bytes())
    for place in range(start + 30 + len("3.jpg") + 4, start + 30 + len("3.jpg") + 30):
        content[place] ^= 0xFF
    path.write_bytes(content)
    source = image_source(path)
    with pytest.raises(BadImage, match=r"train\.zip@3\.jpg cannot be unpacked"):
        source.read("3.jpg")
    assert source.read("4.jpg") == CONTENT["4.jpg"]


def test_an_entry_without_a_name_is_ignored(tmp_path: Path) -> None:
    path = archive(tmp_path / "train.zip")
    path.write_bytes(path.read_bytes().replace(b"39.jpg", b"\0009.jpg"))
    assert image_source(path).read("4.jpg") == CONTENT["4.jpg"]


def test_encrypted_archives_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "train.zip")
    content = bytearray(path.read_bytes())
    # Bit 0 of the flags of an entry in the central directory marks encryption.
    content[content.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train\.zip is encrypted"):
        image_source(path)


def test_an_entry_too_large_when_unpacked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.png", bytes(10_000))
    monkeypatch.setattr(module, "MAX_BYTES", 9_999)
    with pytest.raises(BadImage, match=r"bomb\.png has 10000 bytes; the limit is 9999") as caught:
        image_source(tmp_path / "bomb.zip").read("bomb.png")
    assert caught.value.kind == "impossible_size"


def _read_all(source: ImageArchive, times: int) -> bool:
    return all(source.read(name) == content for _ in range(times) for name, content in CONTENT.items())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_do_not_disturb_each_other(tmp_path: Path, method: str) -> None:
    source = ImageArchive(archive(tmp_path / "train.zip", compression=zipfile.ZIP_DEFLATED))
    source.read("0.jpg")
    with get_context(method).Pool(2) as pool:
        results = [pool.apply_async(_read_all, (source, 50)) for _ in range(4)]
        assert _read_all(source, 50)
        assert all(result.get(60) for result in results)


def test_forked_processes_reopen_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ImageArchive(archive(tmp_path / "train.zip"))
    first = source._zip
    source.read("0.jpg")
    assert source._zip is first
    monkeypatch.setattr("os.getpid", lambda: -1)
    source.read("0.jpg")
    assert source._zip is not first


def test_an_image_is_the_same_from_an_archive_and_from_a_folder(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        file.write(tmp_path / "a.png", "deep/a.png")
    for place in (tmp_path, tmp_path / "all.zip"):
        assert np.array_equal(decode_image(image_source(place).read("a.png"), "a.png"), image)
