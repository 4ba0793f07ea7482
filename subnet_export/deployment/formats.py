"""The registry of file formats and of the runtimes that run them: names, files and packages. Needs no torch.

To add a format, add it to ``FORMATS`` here, and give it a writer in :mod:`subnet_export.deployment.writers` and a
runtime in :mod:`subnet_export.deployment.runtimes`; for benchmarks, add it to ``RUNTIMES`` too. Command lines, the
export with its checks, the model card and the benchmark read these registries.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supernet.errors import UserError

PROJECT = "litepose-supernet"
CHECK_IMAGES = 100
"""Default number of images on which the AP of a file is compared with the network's."""
MAX_INT8_LOSS = 0.02
"""Default limit of the AP that quantisation may cost."""
LEAST_TELLING_AP = 0.02
"""Below this AP of the network, the AP of its files shows nothing: one that finds nobody would be as good."""


@dataclass(frozen=True)
class Format:
    """A file format of the network.

    Attributes:
        name: As given to ``--format``.
        files: File names; the first is the file to open.
        extra: Optional dependency group of this project that installs ``packages``; empty if none is needed.
        packages: Needed to write and check the format.
        readers: Needed to run the format.
        purpose: What it is for, in a few words.
        decodes: Whether its graph can hold the decoding (:mod:`subnet_export.decoding.graph`).
    """

    name: str
    files: tuple[str, ...]
    extra: str
    packages: tuple[str, ...]
    readers: tuple[str, ...]
    purpose: str
    decodes: bool = False


LITEPOSE = Format(
    name="litepose",
    files=("weights.pt",),
    extra="",
    packages=(),
    readers=(),
    purpose="LitePose's own state dict, to run here and to fine-tune",
)
SAFETENSORS = Format(
    name="safetensors",
    files=("weights.safetensors",),
    extra="safetensors",
    packages=("safetensors",),
    readers=("safetensors",),
    purpose="the same state dict where no pickle is wanted",
)
ONNX = Format(
    name="onnx",
    files=("model.onnx",),
    extra="onnx",
    packages=("onnx", "onnxscript", "onnxruntime"),
    readers=("onnxruntime",),
    purpose="ONNX Runtime and others",
    decodes=True,
)
OPENVINO = Format(
    name="openvino",
    files=("model.xml", "model.bin"),
    extra="openvino",
    packages=("onnx", "onnxscript", "openvino"),
    readers=("openvino",),
    purpose="OpenVINO, float",
    decodes=True,
)
OPENVINO_INT8 = Format(
    name="openvino_int8",
    files=("model_int8.xml", "model_int8.bin"),
    extra="openvino",
    packages=("onnx", "onnxscript", "openvino", "nncf"),
    readers=("openvino",),
    purpose="OpenVINO, 8-bit integers",
)
TORCH_EXPORT = Format(
    name="torch_export",
    files=("model.pt2",),
    extra="",
    packages=(),
    readers=(),
    purpose="torch.export.load, AOTInductor, ExecuTorch",
)
WEB = Format(
    name="web",
    files=("web/network.onnx", "web/settings.json", "web/index.html"),
    extra="onnx",
    packages=("onnx", "onnxscript", "onnxruntime"),
    readers=("onnxruntime",),
    purpose="a page that finds people in the browser",
    decodes=True,
)

FORMATS = {chosen.name: chosen for chosen in (LITEPOSE, SAFETENSORS, ONNX, OPENVINO, OPENVINO_INT8, TORCH_EXPORT, WEB)}
"""All formats, by name."""
LOADABLE = tuple(name for name in FORMATS if name != TORCH_EXPORT.name)
"""Formats that this project loads. A torch.export file can hold code, so it is for other programs only."""

RUNTIMES = {
    "torch": (LITEPOSE, "f32"),
    "onnxruntime": (ONNX, "f32"),
    "openvino_f32": (OPENVINO, "f32"),
    "openvino_bf16": (OPENVINO, "bf16"),
    "openvino_int8": (OPENVINO_INT8, "int8"),
    "torch_export": (TORCH_EXPORT, "f32"),
}
"""Ways to run a network, for benchmarks: format and precision by name. ``torch_export`` runs the network that is
exported in that format, in PyTorch: batch norm folded, normalisation inside."""


def parse_runtimes(text: str) -> tuple[str, ...]:
    """Return the names of ``RUNTIMES`` in a comma-separated list, without repetition.

    Raises:
        ValueError: A name is unknown.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in RUNTIMES:
            raise ValueError(f"{name!r} is not a runtime; choose among {', '.join(RUNTIMES)}")
    return tuple(dict.fromkeys(names))


def parse_formats(text: str) -> tuple[Format, ...]:
    """Return the formats in a comma-separated list, without repetition; LitePose's own is always included and first.

    Raises:
        ValueError: A name is unknown.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"{name!r} is not a format; choose among {', '.join(FORMATS)}")
    return tuple(FORMATS[name] for name in dict.fromkeys([LITEPOSE.name, *names]))


def missing(packages: Sequence[str]) -> str | None:
    """Return the first of ``packages`` that is not installed; None if all are."""
    return next((package for package in packages if importlib.util.find_spec(package) is None), None)


def require(packages: Sequence[str], extra: str, purpose: str) -> None:
    """Check that ``packages`` are installed.

    Args:
        packages: Names of the packages.
        extra: Optional dependency group of this project that installs them.
        purpose: What needs them, for the message.

    Raises:
        UserError: One is not; the message names the extra.
    """
    if package := missing(packages):
        raise UserError(
            f"{purpose} needs the package {package}, which is not installed; run pip install '{PROJECT}[{extra}]'"
        )


def format_of(path: Path) -> Format | None:
    """Return the format whose first file has the name of ``path``; None if there is none."""
    return next((chosen for chosen in FORMATS.values() if Path(chosen.files[0]).name == path.name), None)
