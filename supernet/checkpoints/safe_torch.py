"""Converts tensors and plain values to bytes with a checksum and back, without executing anything.

This is the only module that calls ``torch.load`` and ``torch.save``. The bytes are a zip archive of ``torch.save``
whose comment is the SHA-256 of everything before it, so ``torch.load`` and zip tools can still read it. torch does not
verify the checksums that the archive itself holds, so without ours a flipped bit would load silently.
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
_CHECKSUM_SIZE = len(_MARK) + 64
_ZIP_START = b"PK\x03\x04"
_ZIP_END = b"PK\x05\x06"
_ZIP_END_SIZE = 22
"""Size of the record at the end of a zip archive; its last two bytes are the length of the comment that follows."""

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
"""Exceptions that :func:`deserialize` raises for damaged files; most come from the unpickler."""

_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NAMES = {
    *("collections OrderedDict", "collections Counter", "builtins set", "__builtin__ set"),
    *("torch Size", "torch device", "torch.nn.parameter Parameter"),
    *(f"torch._utils {name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")),
    *(f"torch{place} {kind}Storage" for place in ("", ".cuda") for kind in _STORAGES),
}
"""Globals that files of plain tensors and values refer to. The unpickler of torch allows more, which run no code of the
file but may allocate: a few bytes can request an array that fills the memory."""
_PICKLES_BEFORE_ZIP = 5
"""Number of pickles at the start of a file in torch's older format."""
_MOST_SHARED = 4
"""Limit on the bytes of all tensors together, in sizes of the file; tensors may share their numbers."""
_MOST_BITS = 1024
"""Limit on the bits of a whole number; far larger ones take long to print. Random generators' states have 128."""


def serialize(value: Any) -> memoryview:
    """Return ``value`` (tensors and plain values) as ``torch.save`` writes it.

    It is written to memory, because torch's own file writer reports a full disk with an unrelated error.
    """
    content = io.BytesIO()
    torch.save(value, content)
    return content.getbuffer()


def deserialize(content: bytes | memoryview) -> Any:
    """Return the value that :func:`serialize` or ``torch.save`` wrote, on the CPU; nothing in it is executed.

    It takes at most a few times the memory of ``content``, whatever sizes that claims.

    Raises:
        Exception: One of ``DAMAGED``.
    """
    if bytes(content[:4]) == _ZIP_START:
        _check_archive(content)
    else:
        _check_pickles(io.BytesIO(content), _PICKLES_BEFORE_ZIP)
    value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    check_limits(value, len(content), _LeafCheck(len(content)).check)
    return value


def _check_archive(content: bytes | memoryview) -> None:
    """Make sure that the archive unpacks to no more than its own size, and check its pickles."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("entries are compressed or overlap")
        if len({entry.filename.lower() for entry in entries}) != len(entries):
            raise ValueError("two entries have one name")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                _check_pickles(io.BytesIO(archive.read(entry)), 1)


def _check_pickles(stream: io.BytesIO, most: int) -> None:
    """Make sure that the next ``most`` pickles refer only to ``_NAMES``, without loading them."""
    for _ in range(most):
        for operation, argument, _ in pickletools.genops(stream):
            if operation.name in ("GLOBAL", "INST") and argument not in _NAMES:
                raise pickle.UnpicklingError(f"refers to {argument}")


class _LeafCheck:
    """Checks the tensors and numbers read from a file of ``num_bytes``."""

    def __init__(self, num_bytes: int) -> None:
        self._left = _MOST_SHARED * num_bytes

    def check(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
                raise ValueError("a tensor is sparse, quantised or not on the CPU")
            # Many tensors can share one storage, and strides of 0 make a large tensor of one number.
            self._left -= value.numel() * value.element_size()
            if self._left < 0:
                raise ValueError("the tensors hold more numbers than the file")
        elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise ValueError(f"a whole number has more than {_MOST_BITS} bits")


def append_checksum(serialized: memoryview) -> bytearray:
    """Return the result of :func:`serialize` with its checksum at the end."""
    assert bytes(serialized[-_ZIP_END_SIZE:][:4]) == _ZIP_END
    content = bytearray(serialized)
    content[-2:] = _CHECKSUM_SIZE.to_bytes(2, "little")
    content += _MARK + hashlib.sha256(content).hexdigest().encode()
    return content


def verify_checksum(content: bytes, path: object) -> bool:
    """Check the checksum at the end of ``content``, read from ``path``; returns whether there is one.

    Raises:
        UserError: The checksum does not match.
    """
    body, mark, expected = memoryview(content)[:-_CHECKSUM_SIZE], content[-_CHECKSUM_SIZE:-64], content[-64:]
    if mark != _MARK:
        return False
    actual = hashlib.sha256(body).hexdigest().encode()
    if actual != expected:
        raise UserError(
            f"{path} is damaged: sha256 mismatch, expected {expected.decode(errors='replace')}, got {actual.decode()}; "
            "restore or recreate it"
        )
    return True
