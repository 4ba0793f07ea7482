"""The file formats of an export: names, files, and the packages that each needs (no torch)."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supernet.errors import UserError

PROJECT = "litepose-supernet"


CHECK_IMAGES = 100
"""Images on which the AP of a file is compared with the network's unless told otherwise."""
MAX_INT8_LOSS = 0.02
"""AP that quantisation may cost unless told otherwise."""


@dataclass(frozen=True)
class Format:
    """One way to write the network.

    Attributes:
        name: As given to ``--format``.
        files: What is written; the first is the one that programs are pointed to.
        extra: Optional dependency group of this project that brings ``packages``; empty if none is needed.
        packages: Needed to write and check the format.
        readers: Needed to run the format.
        purpose: What it is for, in a few words.
    """

    name: str
    files: tuple[str, ...]
    extra: str
    packages: tuple[str, ...]
    readers: tuple[str, ...]
    purpose: str


LITEPOSE = Format("litepose", ("weights.pt",), "", (), (), "LitePose's own state dict, to run here and to fine-tune")
SAFETENSORS = Format(
    "safetensors",
    ("weights.safetensors",),
    "safetensors",
    ("safetensors",),
    ("safetensors",),
    "the same state dict where no pickle is wanted",
)
ONNX = Format(
    "onnx", ("model.onnx",), "onnx", ("onnx", "onnxscript", "onnxruntime"), ("onnxruntime",), "ONNX Runtime and others"
)
OPENVINO = Format(
    "openvino",
    ("model.xml", "model.bin"),
    "openvino",
    ("onnx", "onnxscript", "openvino"),
    ("openvino",),
    "OpenVINO, float",
)
OPENVINO_INT8 = Format(
    "openvino_int8",
    ("model_int8.xml", "model_int8.bin"),
    "openvino",
    ("onnx", "onnxscript", "openvino", "nncf"),
    ("openvino",),
    "OpenVINO, 8-bit integers",
)
TORCH_EXPORT = Format("torch_export", ("model.pt2",), "", (), (), "torch.export.load, AOTInductor, ExecuTorch")

FORMATS = {each.name: each for each in (LITEPOSE, SAFETENSORS, ONNX, OPENVINO, OPENVINO_INT8, TORCH_EXPORT)}
LOADABLE = tuple(name for name in FORMATS if name != TORCH_EXPORT.name)
"""Formats that this project reads; a file of torch.export can hold code, so it is for other programs."""


RUNTIMES = {
    "torch": (LITEPOSE, "f32"),
    "onnxruntime": (ONNX, "f32"),
    "openvino_f32": (OPENVINO, "f32"),
    "openvino_bf16": (OPENVINO, "bf16"),
    "openvino_int8": (OPENVINO_INT8, "int8"),
    "torch_export": (TORCH_EXPORT, "f32"),
}
"""Ways to run a network: the format, and what it computes in. Of ``torch_export`` it is the network that is exported:
batch norm folded, normalisation inside."""


def parse_runtimes(text: str) -> tuple[str, ...]:
    """Return the names of ``RUNTIMES`` in a comma-separated list, without repetition.

    Raises:
        ValueError: A name is unknown.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in RUNTIMES:
            raise ValueError(f"{name!r} is no runtime; choose among {', '.join(RUNTIMES)}")
    return tuple(dict.fromkeys(names))


def parse_formats(text: str) -> tuple[Format, ...]:
    """Return the formats in a comma-separated list, without repetition, LitePose's own always first.

    Raises:
        ValueError: A name is unknown.
    """
    found = [LITEPOSE]
    for name in text.split(","):
        if name.strip() not in FORMATS:
            raise ValueError(f"{name.strip()!r} is no format; choose among {', '.join(FORMATS)}")
        if FORMATS[name.strip()] not in found:
            found.append(FORMATS[name.strip()])
    return tuple(found)


def missing(packages: Sequence[str]) -> str | None:
    """Return the first of ``packages`` that is not installed; None if all are."""
    return next((package for package in packages if importlib.util.find_spec(package) is None), None)


def require(packages: Sequence[str], extra: str, what: str) -> None:
    """Raise UserError naming the extra that brings ``packages`` if one of them is not installed."""
    if package := missing(packages):
        raise UserError(
            f"{what} needs the package {package}, which is not installed; run pip install '{PROJECT}[{extra}]'"
        )


def format_of(path: Path) -> Format | None:
    """Return the format whose first file has the name of ``path``; None if there is none."""
    return next((each for each in FORMATS.values() if each.files[0] == path.name), None)
