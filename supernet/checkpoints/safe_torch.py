"""Tensors and plain values as bytes that carry their own checksum, and the one place that reads and writes tensors.

The bytes are what ``torch.save`` makes, a zip archive, with the SHA-256 of all before it as the archive's comment. One
file thus holds all there is to know about it wherever it is copied, and ``torch.load`` and every zip tool still read
it. Without a checksum a flipped bit loads silently: the archive's own sums are not checked.
"""

import hashlib
import io
import pickle
import pickletools
import struct
import zipfile
from typing import Any

import torch

from supernet.errors import UserError
from supernet.io.limits import check_limits

_MARK = b"sha256:"
_SEAL_SIZE = len(_MARK) + 64
_ZIP_START = b"PK\x03\x04"
_ZIP_END = b"PK\x05\x06"
_ZIP_END_SIZE = 22
"""Of the record that ends a zip archive; its last two bytes are the length of the comment that follows."""

DAMAGED = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    zipfile.BadZipFile,
    struct.error,
)
"""What :func:`unpack` was seen to raise on damaged files; most of it comes from the unpickler inside."""

_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NAMES = {
    *("collections OrderedDict", "collections Counter", "builtins set", "__builtin__ set"),
    *("torch Size", "torch device", "torch.nn.parameter Parameter"),
    *(f"torch._utils {name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")),
    *(f"torch{place} {kind}Storage" for place in ("", ".cuda") for kind in _STORAGES),
}
"""What files of plain tensors and values refer to. The unpickler knows more, harmless to run but not to call: a few
bytes can have it make an array that fills the memory."""
_PICKLES_BEFORE_ZIP = 5
"""That a file of torch's older format begins with."""
_MOST_SHARED = 4
"""Times that the tensors of a file, taken together, may hold its own bytes."""
_MOST_BITS = 1024
"""Of a whole number; far larger ones take long to show. Those of random generators have 128."""


def serialize(value: Any) -> memoryview:
    """Return ``value`` (tensors and plain values) as ``torch.save`` writes it.

    In memory, as torch's own writer turns a full disk into an error that does not say so.
    """
    content = io.BytesIO()
    torch.save(value, content)
    return content.getbuffer()


def deserialize(content: bytes | memoryview) -> Any:
    """Return what :func:`pack` or any ``torch.save`` wrote, on the CPU; nothing in it is executed.

    It takes no more memory than a few times that of ``content``, whatever that claims.

    Raises:
        Exception: One of ``DAMAGED``.
    """
    if bytes(content[:4]) == _ZIP_START:
        _check_archive(content)
    else:
        _check_pickles(io.BytesIO(content), _PICKLES_BEFORE_ZIP)
    value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    check_limits(value, len(content), _Leaves(len(content)).check)
    return value


def _check_archive(content: bytes | memoryview) -> None:
    """Make sure that the archive unpacks to no more than its own size, and :func:`_check_pickles` of it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("entries that are compressed or overlap")
        if len({entry.filename.lower() for entry in entries}) != len(entries):
            raise ValueError("entries of one name")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                _check_pickles(io.BytesIO(archive.read(entry)), 1)


def _check_pickles(stream: io.BytesIO, most: int) -> None:
    """Make sure that the next pickles refer to nothing but ``_NAMES``, without loading them."""
    for _ in range(most):
        for operation, argument, _ in pickletools.genops(stream):
            if operation.name in ("GLOBAL", "INST") and argument not in _NAMES:
                raise pickle.UnpicklingError(f"refers to {argument}")


class _Leaves:
    """Makes sure that what a file of ``num_bytes`` holds may be used and shown."""

    def __init__(self, num_bytes: int) -> None:
        self._left = _MOST_SHARED * num_bytes

    def check(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
                raise ValueError("a tensor of another kind than networks have")
            # The same numbers can be those of many tensors, and one number those of a large one.
            self._left -= value.numel() * value.element_size()
            if self._left < 0:
                raise ValueError("tensors of more numbers than there are")
        elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise ValueError("a huge number")


def append_checksum(packed: memoryview) -> bytearray:
    """Return what :func:`pack` gave with its checksum at the end."""
    assert bytes(packed[-_ZIP_END_SIZE:][:4]) == _ZIP_END
    content = bytearray(packed)
    content[-2:] = _SEAL_SIZE.to_bytes(2, "little")
    content += _MARK + hashlib.sha256(content).hexdigest().encode()
    return content


def verify_checksum(content: bytes, path: object) -> bool:
    """Check the checksum at the end of ``content``, read from ``path``; returns whether there is one.

    Raises:
        UserError: The content is not what the checksum is of.
    """
    body, mark, expected = memoryview(content)[:-_SEAL_SIZE], content[-_SEAL_SIZE:-64], content[-64:]
    if mark != _MARK:
        return False
    found = hashlib.sha256(body).hexdigest().encode()
    if found != expected:
        raise UserError(
            f"{path} is damaged: sha256 mismatch, expected {expected.decode(errors='replace')}, got {found.decode()}; "
            "restore it or make it anew"
        )
    return True
