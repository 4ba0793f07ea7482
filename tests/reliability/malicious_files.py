"""Files that claim what they do not hold, or would run something if they were read without care."""

import io
import json
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.reliability.fuzz_targets import without_checksum


class Storage:
    """Stands for the numbers of a tensor in :func:`archived`."""

    def __init__(self, num: int) -> None:
        self.num = num


class Call:
    """Unpickled, it calls ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.made_of = function, arguments

    def __reduce__(self) -> Any:
        return self.made_of


class Pickler(pickle.Pickler):
    """Writes a Storage as torch does."""

    def persistent_id(self, value: Any) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", value.num) if isinstance(value, Storage) else None


def tensor(num: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Call:
    """A tensor of a storage that claims ``num`` numbers."""
    return Call(torch._utils._rebuild_tensor_v2, Storage(num), 0, sizes, strides, False, OrderedDict())


def archived(value: Any, numbers: bytes = b"\0" * 4, compression: int = zipfile.ZIP_STORED) -> bytes:
    """What ``torch.save`` would write, with any claims."""
    pickled, content = io.BytesIO(), io.BytesIO()
    Pickler(pickled, 2).dump(value)
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, entry in {
            "data.pkl": pickled.getvalue(),
            "byteorder": b"little",
            "version": b"3\n",
            "data/0": numbers,
        }.items():
            archive.writestr(f"archive/{name}", entry)
    return content.getvalue()


def twice(content: bytes, name: str = "archive/data.pkl") -> bytes:
    """An archive with a second entry of the pickle's name, or nearly so."""
    changed = io.BytesIO(content)
    with zipfile.ZipFile(changed, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about duplicate names
        archive.writestr(name, b"\x80\x02}.")
    return changed.getvalue()


def older(*last: Any) -> bytes:
    """The pickles that a file of torch's older format begins with, of which ``last`` are the last."""
    begin = [torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}, of_kind(1), []]
    return b"".join(pickle.dumps(value, 2) for value in [*begin[: len(begin) - len(last)], *last])


def endless() -> list[Any]:
    """A list of a few hundred bytes that shows 2 ** 60 values."""
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    return value


def of_kind(entry: Any) -> dict[str, Any]:
    return {"format": 1, "kind": "supernet", "entry": entry}


def described(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the description of the exported model in the folder ``model``."""
    value = without_checksum(model / "model.json")
    change(value)
    (model / "model.json").write_text(json.dumps(value))
