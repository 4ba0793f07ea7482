"""Where image files lie: a folder, or a zip archive that is read without unpacking it."""

import lzma
import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from supernet.errors import UserError
from supernet.pose.data.image_decoding import MOST_BYTES, BadImage, read_bytes

_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
"""What zipfile was seen to raise for entries that are damaged, encrypted, or packed in a way it does not know."""


class ImageSource(Protocol):
    """Image files by name."""

    def read(self, name: str) -> bytes:
        """Content of the file called ``name``.

        Raises:
            BadImage: It is missing or unreadable.
        """
        ...

    def describe(self, name: str) -> str:
        """What to call the file in messages."""
        ...


def image_source(place: str | Path) -> ImageSource:
    """The images in a folder, or in a zip archive.

    Args:
        place: FOLDER, ARCHIVE.zip, or ARCHIVE.zip@FOLDER for a folder in the archive; ARCHIVE.zip@, as the published
            code has it, is the same as ARCHIVE.zip.

    Raises:
        UserError: There is no such folder, or the archive cannot be used.
    """
    archive, at, folder = str(place).partition(".zip@")
    if at:
        return ImageArchive(Path(archive + ".zip"), folder)
    path = Path(place)
    if path.suffix.lower() == ".zip" and not path.is_dir():
        return ImageArchive(path)
    if not path.is_dir():
        beside = path.with_name(f"{path.name}.zip")
        remedy = f"or give the archive {beside}" if beside.is_file() else "or a zip archive of them"
        raise UserError(f"there is no image folder {path}; name the folder that holds the images, {remedy}")
    return ImageFolder(path)


class ImageFolder:
    """Images in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes:
        """Content of the file called ``name``."""
        return read_bytes(self._folder / name)

    def describe(self, name: str) -> str:
        """What to call the file in messages."""
        return str(self._folder / name)


class ImageArchive:
    """Images in a zip archive, which every process opens for itself: a place in an open file cannot be shared.

    Args:
        path: The archive.
        folder: Folder in it where the names start; by default its top, or its only folder if all files are in that.

    Raises:
        UserError: The archive is missing, damaged, encrypted, or has no such folder.
    """

    def __init__(self, path: Path, folder: str = "") -> None:
        self._path = path
        self._is_told = bool(folder.strip("/"))
        self._open()
        entries = [one for one in self._zip.infolist() if one.filename]  # without a name, zipfile stumbles over it
        files = [one for one in entries if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
        if any(one.flag_bits & 1 for one in files):
            raise UserError(f"the image archive {path} is encrypted; unpack it and name the folder")
        tops = {one.filename.partition("/")[0] if "/" in one.filename else "" for one in files}
        self._folder = PurePosixPath(folder.strip("/") or (tops.pop() if len(tops) == 1 else ""))
        if not any(PurePosixPath(one.filename).is_relative_to(self._folder) for one in files):
            raise UserError(f"the image archive {path} has no files in a folder {folder!r}; name one that it has")

    def read(self, name: str) -> bytes:
        """Content of the file called ``name``."""
        if self._process != os.getpid():
            self._open()
        entry = self._zip.NameToInfo.get(self._name(name))
        if entry is None:
            raise BadImage(f"image {self.describe(name)} is not in the archive; check the path", "missing")
        if entry.file_size > MOST_BYTES:
            raise BadImage(
                f"image {self.describe(name)} has {entry.file_size} bytes, more than {MOST_BYTES}", "impossible_size"
            )
        try:
            return self._zip.read(entry)
        except _BROKEN as error:
            raise BadImage(
                f"image {self.describe(name)} cannot be unpacked ({error}); fetch the archive again"
            ) from error

    def describe(self, name: str) -> str:
        """What to call the file in messages."""
        return f"{self._path}@{self._name(name)}"

    def _name(self, name: str) -> str:
        """What the archive calls the file; ``name`` may begin with the archive's only folder if none was asked for."""
        inside = (self._folder / name).as_posix()
        is_whole = not self._is_told and inside not in self._zip.NameToInfo and name in self._zip.NameToInfo
        return name if is_whole else inside

    def _open(self) -> None:
        try:
            self._zip = zipfile.ZipFile(self._path)
        except OSError as error:
            raise UserError(f"cannot read the image archive {self._path}: {error.strerror}; check the path") from error
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise UserError(f"the image archive {self._path} is damaged ({error}); fetch it again") from error
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file, for processes that are not forked."""
        return {**self.__dict__, "_zip": None, "_process": None}
