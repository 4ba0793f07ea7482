"""Reads image files by name from a folder or a zip archive (without unpacking it).

Unicode writes "é" as one character (NFC) or as "e" and an accent (NFD). macOS turns names into NFD, which then differ
from those of the annotation file though they look the same, so both forms are looked for.
"""

import lzma
import os
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from supernet.errors import UserError
from supernet.pose.data.image_decoding import MAX_BYTES, BadImage, read_bytes

_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
"""Errors observed from zipfile for damaged, encrypted or unsupported entries."""


class ImageSource(Protocol):
    """Image files by name."""

    def read(self, name: str) -> bytes:
        """The content of the file ``name``.

        Raises:
            BadImage: The file is missing or unreadable.
        """
        ...

    def head(self, name: str, num_bytes: int) -> bytes:
        """The first ``num_bytes`` of the file ``name``, or all of it if it is shorter; raises as ``read``."""
        ...

    def size(self, name: str) -> int | None:
        """The bytes of the file ``name``; None if there is none."""
        ...

    def describe(self, name: str) -> str:
        """The file's name in messages."""
        ...


def image_source(place: str | Path) -> ImageSource:
    """Open a folder or a zip archive of images.

    Args:
        place: FOLDER, ARCHIVE.zip, or ARCHIVE.zip@FOLDER for a folder in the archive; ARCHIVE.zip@, as the published
            code has it, is the same as ARCHIVE.zip.

    Raises:
        UserError: The folder does not exist, or the archive cannot be used.
    """
    archive, separator, folder = str(place).partition(".zip@")
    if separator:
        return ImageArchive(Path(archive + ".zip"), folder)
    path = Path(place)
    if path.suffix.lower() == ".zip" and not path.is_dir():
        return ImageArchive(path)
    if not path.is_dir():
        archive_path = path.with_name(f"{path.name}.zip")
        remedy = f"or give the archive {archive_path}" if archive_path.is_file() else "or a zip archive"
        raise UserError(f"the image folder {path} does not exist; give the folder that holds the images, {remedy}")
    return ImageFolder(path)


class ImageFolder:
    """Images in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes:
        """The content of the file ``name``."""
        return read_bytes(self._path(name))

    def head(self, name: str, num_bytes: int) -> bytes:
        """The first ``num_bytes`` of the file ``name``."""
        return read_bytes(self._path(name), num_bytes)

    def size(self, name: str) -> int | None:
        """The bytes of the file ``name``; None if there is none."""
        try:
            return self._path(name).stat().st_size
        except OSError:
            return None

    def describe(self, name: str) -> str:
        """The file's name in messages."""
        return str(self._folder / name)

    def _path(self, name: str) -> Path:
        paths = [self._folder / form for form in _forms(name)]
        return next((path for path in paths if os.path.exists(path)), paths[0]) if len(paths) > 1 else paths[0]


class ImageArchive:
    """Images in a zip archive. Every process opens the archive itself, because a file position cannot be shared.

    Args:
        path: Path of the archive.
        folder: Folder in the archive that names are relative to; empty means the top, or the only folder there.

    Raises:
        UserError: The archive is missing, damaged, encrypted, or does not contain the folder.
    """

    def __init__(self, path: Path, folder: str = "") -> None:
        self._path = path
        self._has_folder = bool(folder.strip("/"))
        self._zip: zipfile.ZipFile | None = None
        self._process = os.getpid()
        entries = [entry for entry in self._opened.infolist() if entry.filename]  # zipfile fails on an empty name
        files = [entry for entry in entries if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")]
        if any(entry.flag_bits & 1 for entry in files):
            raise UserError(f"the image archive {path} is encrypted; unpack it and give the folder")
        tops = {entry.filename.partition("/")[0] if "/" in entry.filename else "" for entry in files}
        self._folder = PurePosixPath(folder.strip("/") or (tops.pop() if len(tops) == 1 else ""))
        if not any(PurePosixPath(entry.filename).is_relative_to(self._folder) for entry in files):
            raise UserError(f"the image archive {path} has no files in the folder {folder!r}; give another folder")

    def read(self, name: str) -> bytes:
        """The content of the file ``name``."""
        return self.head(name)

    def head(self, name: str, num_bytes: int | None = None) -> bytes:
        """The first ``num_bytes`` of the file ``name``; None for all."""
        entry = self._entry(name)
        if entry is None:
            raise BadImage(f"image {self.describe(name)} is not in the archive; check the path", "missing")
        if entry.file_size > MAX_BYTES:
            raise BadImage(
                f"image {self.describe(name)} has {entry.file_size} bytes; the limit is {MAX_BYTES}",
                "impossible_size",
            )
        try:
            if num_bytes is None:
                return self._opened.read(entry)
            with self._opened.open(entry) as file:
                return file.read(num_bytes)
        except _ZIP_ERRORS as error:
            raise BadImage(
                f"image {self.describe(name)} cannot be unpacked ({error}); download the archive again"
            ) from error

    def size(self, name: str) -> int | None:
        """The bytes of the file ``name``; None if there is none."""
        entry = self._entry(name)
        return None if entry is None else entry.file_size

    def describe(self, name: str) -> str:
        """The file's name in messages."""
        return f"{self._path}@{self._name(name)}"

    def _entry(self, name: str) -> zipfile.ZipInfo | None:
        return self._opened.NameToInfo.get(self._name(name))

    def _name(self, name: str) -> str:
        """The file's name in the archive; without a given folder, ``name`` may include the archive's only folder."""
        names = self._opened.NameToInfo
        candidates = [(self._folder / form).as_posix() for form in _forms(name)]
        if not self._has_folder:
            candidates += _forms(name)
        return next((candidate for candidate in candidates if candidate in names), candidates[0])

    @property
    def _opened(self) -> zipfile.ZipFile:
        """The archive, opened by this process."""
        if self._zip is None or self._process != os.getpid():
            try:
                self._zip = zipfile.ZipFile(self._path)
            except OSError as error:
                raise UserError(
                    f"cannot read the image archive {self._path}: {error.strerror}; check the path"
                ) from error
            except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
                raise UserError(f"the image archive {self._path} is damaged ({error}); download it again") from error
            self._process = os.getpid()
        return self._zip

    def __getstate__(self) -> dict[str, Any]:
        """Drop the open file: processes that are not forked open their own."""
        return {**self.__dict__, "_zip": None}


def _forms(name: str) -> list[str]:
    """The spellings of a name in Unicode's forms: first as it is given, then others that look the same."""
    if name.isascii():
        return [name]
    return list(dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]))
