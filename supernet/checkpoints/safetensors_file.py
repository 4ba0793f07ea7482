"""Supernets as safetensors files: tensors without any pickle, for sharing (extra ``safetensors``).

The header holds plain text: the kind and version of the file, everything but the tensors as JSON, and the SHA-256 of
both together, which is verified on reading.

Source: the safetensors format (github.com/huggingface/safetensors): 8 bytes with the length of the header, a header in
JSON, then the numbers of all tensors.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from supernet.checkpoints.container import FORMAT
from supernet.errors import UserError, missing_packages
from supernet.io.limits import check_limits
from supernet.version import VERSION

KIND = "supernet"
_SUM = "sha256"
_LENGTH_BYTES = 8


def serialize(value: Mapping[str, Any]) -> bytes:
    """Return a supernet's parts, tensors under "state" and plain values otherwise, as a safetensors file.

    Raises:
        UserError: safetensors is not installed.
    """
    library = _library()
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in value["state"].items()}
    description = json.dumps({key: part for key, part in value.items() if key != "state"}, allow_nan=False)
    header = {"kind": KIND, "format": str(FORMAT), "code": VERSION, "description": description}
    content: bytes = library.save(state, header | {_SUM: _sum(header, state)})
    return content


def is_safetensors(content: bytes) -> bool:
    """Whether a file begins as a safetensors file; its name may lack the suffix, as in the cache of a hub."""
    return content[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


def is_supernet(content: bytes) -> bool:
    """Whether the header of a safetensors file says that it is a supernet."""
    try:
        return _header(content).get("kind") == KIND
    except ValueError:
        return False


def read(content: bytes, path: Path) -> dict[str, Any]:
    """Return the parts that :func:`serialize` was given; nothing in the file is executed.

    Args:
        content: The file.
        path: Its name in messages.

    Raises:
        UserError: The file is damaged or of another kind or version, or safetensors is not installed.
    """
    library = _library()
    try:
        header = _header(content)
        if header.get("kind") != KIND:
            raise UserError(f"{path} is not a supernet file; give one that this project wrote")
        if header.get("format") != str(FORMAT):
            raise UserError(
                f"{path} has format version {header.get('format')!r}, this release ({VERSION}) reads {FORMAT}; use the "
                "release that wrote it"
            )
        state = library.load(content)
        if header.get(_SUM) != _sum({key: text for key, text in header.items() if key != _SUM}, state):
            raise UserError(f"{path} is damaged: its SHA-256 differs; restore it or download it again")
        value = json.loads(header["description"])
        check_limits(value, len(content))
        return {**value, "state": state}
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path} is damaged or not a supernet file of this project ({error}); restore it or download it again"
        ) from error


def _library() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise missing_packages("a safetensors file", ["safetensors"], "safetensors") from error
    return safetensors.torch


def _header(content: bytes) -> dict[str, Any]:
    """Return the metadata of a safetensors file.

    Raises:
        ValueError: It is none.
    """
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    if len(content) < _LENGTH_BYTES or length > len(content) - _LENGTH_BYTES:
        raise ValueError("it has no header")
    value = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length].decode())
    check_limits(value, len(content))
    metadata = value.get("__metadata__") if isinstance(value, dict) else None
    if not isinstance(metadata, dict):
        raise ValueError("it has no description")
    return metadata


def _sum(header: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the texts of the header and of all tensors with their names, types and shapes."""
    digest = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    for name in sorted(state):
        tensor = state[name].contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
