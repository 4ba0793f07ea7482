"""Encodes values, valid or changed at random, as the content of files."""

import io
import json
import warnings
import zipfile
from typing import Any

import torch

from search.lut.devices.kit import FOLDER
from supernet.checkpoints import safe_torch, safetensors_file


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def as_json_lines(value: Any) -> bytes:
    rows = value if isinstance(value, list) else [value]
    return b"".join(as_json(row) + b"\n" for row in rows)


def as_text_lines(value: Any) -> bytes:
    return "".join(f"{_text(line)}\n" for line in (value if isinstance(value, list) else [value])).encode()


def as_torch(value: Any) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def sealed_bytes(value: Any) -> bytes:
    return bytes(safe_torch.append_checksum(safe_torch.serialize(value)))


def as_zip(value: Any) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about duplicate names
        for pair in value if isinstance(value, list) else []:
            name, entry = [*map(_text, pair if isinstance(pair, list) else []), "x", ""][:2]
            archive.writestr(name.partition("\0")[0] or "x", entry)  # a zero byte would end the name
    return content.getvalue()


def _text(value: Any) -> str:
    return str(value).encode(errors="replace").decode()


def as_safetensors(value: Any) -> bytes:
    """What a safetensors file can hold of a value: the tensors of its state, and JSON; nothing if that is not JSON."""
    parts = value if isinstance(value, dict) else {"value": value}
    state = parts.get("state")
    tensors = (
        {str(name): part for name, part in state.items() if torch.is_tensor(part)} if isinstance(state, dict) else {}
    )
    try:
        return safetensors_file.serialize({**parts, "state": tensors})
    except (TypeError, ValueError):
        return b""


def as_image(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b""


def as_kit(value: Any) -> bytes:
    return as_zip([[f"{FOLDER}/manifest.json", json.dumps(value)]])
