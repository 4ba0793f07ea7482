"""Tensors and plain values as bytes that carry their own checksum, and the one place that reads and writes tensors.

The bytes are what ``torch.save`` makes, a zip archive, with the SHA-256 of all before it as the archive's comment. One
file thus holds all there is to know about it wherever it is copied, and ``torch.load`` and every zip tool still read
it. Without a checksum a flipped bit loads silently: the archive's own sums are not checked.
"""

import hashlib
import io
import pickle
import struct
from typing import Any

import torch

from supernet.errors import UserError

_MARK = b"sha256:"
_SEAL_SIZE = len(_MARK) + 64
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
    struct.error,
)
"""What :func:`unpack` was seen to raise on damaged files; most of it comes from the unpickler inside."""


def pack(value: Any) -> memoryview:
    """Return ``value`` (tensors and plain values) as ``torch.save`` writes it.

    In memory, as torch's own writer turns a full disk into an error that does not say so.
    """
    content = io.BytesIO()
    torch.save(value, content)
    return content.getbuffer()


def unpack(content: bytes | memoryview) -> Any:
    """Return what :func:`pack` or any ``torch.save`` wrote, on the CPU; nothing in it is executed.

    Raises:
        Exception: One of ``DAMAGED``.
    """
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def seal(packed: memoryview) -> bytearray:
    """Return what :func:`pack` gave with its checksum at the end."""
    assert bytes(packed[-_ZIP_END_SIZE:][:4]) == _ZIP_END
    content = bytearray(packed)
    content[-2:] = _SEAL_SIZE.to_bytes(2, "little")
    content += _MARK + hashlib.sha256(content).hexdigest().encode()
    return content


def check_seal(content: bytes, path: object) -> bool:
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
