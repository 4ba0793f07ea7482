"""The registry of file formats and of the runtimes that run them: names, files and packages. Needs no torch.

To add a format, add it to ``FORMATS`` here, and give it a writer in :mod:`subnet_export.deployment.writers` and a
runtime in :mod:`subnet_export.deployment.library_runtimes`. Command lines, the export with its checks, the model card
and the benchmark read these registries.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supernet.errors import missing_packages

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
        runs_on: Machines that it is for.
        runtimes: Ways to run it, for benchmarks: name and precision of each.
        takes: Input of its graph, where the format allows only one (:mod:`subnet_export.deployment.deployed_network`).
        environment: Environment of its own in which it is converted (:mod:`subnet_export.deployment.environments`);
            empty if it is converted in this one.
        loads_here: Whether this project loads its files.
        runs_here: Whether a file is run when it is written; if not, what was checked instead is in its record.
        maps_tolerance: Largest root mean square difference of its maps, in standard deviations of the network's own.
            In float32, libraries differ by up to 2e-5 in the deepest networks.
        ap_tolerance: Largest difference between the AP of a file in float and the network's.
        decodes: Whether its graph can hold the decoding (:mod:`subnet_export.decoding.graph`).
        needs_images: Whether training images show the range of its values when it is written.
    """

    name: str
    files: tuple[str, ...]
    extra: str
    packages: tuple[str, ...]
    readers: tuple[str, ...]
    purpose: str
    runs_on: str
    runtimes: tuple[tuple[str, str], ...] = ()
    takes: str | None = None
    environment: str = ""
    loads_here: bool = True
    runs_here: bool = True
    maps_tolerance: float = 1e-4
    ap_tolerance: float = 1e-3
    decodes: bool = False
    needs_images: bool = False


LITEPOSE = Format(
    name="litepose",
    files=("weights.pt",),
    extra="",
    packages=(),
    readers=(),
    purpose="LitePose's own state dict, to run here and to fine-tune",
    runs_on="any machine with PyTorch",
    runtimes=(("torch", "f32"),),
)
SAFETENSORS = Format(
    name="safetensors",
    files=("weights.safetensors",),
    extra="safetensors",
    packages=("safetensors",),
    readers=("safetensors",),
    purpose="the same state dict where no pickle is wanted",
    runs_on="any machine with PyTorch",
)
ONNX = Format(
    name="onnx",
    files=("model.onnx",),
    extra="onnx",
    packages=("onnx", "onnxruntime"),
    readers=("onnxruntime",),
    purpose="ONNX Runtime and others",
    runs_on="nearly everything; x86, Arm, GPUs",
    runtimes=(("onnxruntime", "f32"),),
    decodes=True,
)
OPENVINO = Format(
    name="openvino",
    files=("model.xml", "model.bin"),
    extra="openvino",
    packages=("onnx", "openvino"),
    readers=("openvino",),
    purpose="OpenVINO, float",
    runs_on="Intel and AMD processors, Arm",
    runtimes=(("openvino_f32", "f32"), ("openvino_bf16", "bf16")),
    decodes=True,
)
OPENVINO_INT8 = Format(
    name="openvino_int8",
    files=("model_int8.xml", "model_int8.bin"),
    extra="openvino",
    packages=("onnx", "openvino", "nncf"),
    readers=("openvino",),
    purpose="OpenVINO, 8-bit integers",
    runs_on="Intel and AMD processors, Arm",
    runtimes=(("openvino_int8", "int8"),),
    needs_images=True,
)
TORCH_EXPORT = Format(
    name="torch_export",
    files=("model.pt2",),
    extra="",
    packages=(),
    readers=(),
    purpose="torch.export.load, AOTInductor",
    runs_on="any machine with PyTorch; AOTInductor",
    runtimes=(("torch_export", "f32"),),
    loads_here=False,  # such a file can hold code
)
ONNX_FP16 = Format(
    name="onnx_fp16",
    files=("model_fp16.onnx",),
    extra="onnx",
    packages=("onnx", "onnxruntime"),
    readers=("onnxruntime",),
    purpose="ONNX, 16-bit floats inside",
    runs_on="GPUs and NPUs that compute in float16; slower than onnx on most CPUs",
    runtimes=(("onnxruntime_fp16", "f16"),),
    maps_tolerance=3e-2,
    ap_tolerance=5e-3,
    needs_images=True,
)
NCNN = Format(
    name="ncnn",
    files=("model.ncnn.param", "model.ncnn.bin"),
    extra="ncnn",
    packages=("onnx", "pnnx", "ncnn"),
    readers=("ncnn",),
    purpose="ncnn",
    runs_on="Raspberry Pi and other Arm boards, Android, iOS, x86",
    runtimes=(("ncnn", "f32"),),
    takes="float32",
)
MNN = Format(
    name="mnn",
    files=("model.mnn",),
    extra="mnn",
    packages=("onnx", "MNN"),
    readers=("MNN",),
    purpose="MNN",
    runs_on="Android, iOS, Arm boards, x86",
    runtimes=(("mnn", "f32"),),
    takes="float32",
)
LITERT = Format(
    name="litert",
    files=("model.tflite",),
    extra="litert",
    packages=("ai_edge_litert",),
    readers=("ai_edge_litert",),
    purpose="LiteRT (TensorFlow Lite)",
    runs_on="Android, Raspberry Pi and other Arm boards, x86",
    runtimes=(("litert", "f32"),),
)
LITERT_INT8 = Format(
    name="litert_int8",
    files=("model_int8.tflite",),
    extra="litert",
    packages=("ai_edge_litert",),
    readers=("ai_edge_litert",),
    purpose="LiteRT (TensorFlow Lite), 8-bit integers",
    runs_on="Android, Raspberry Pi and other Arm boards, x86",
    runtimes=(("litert_int8", "int8"),),
    environment="litert_int8",
    needs_images=True,
)
EXECUTORCH = Format(
    name="executorch",
    files=("model.pte",),
    extra="executorch",
    packages=("executorch",),
    readers=("executorch",),
    purpose="ExecuTorch with XNNPACK",
    runs_on="Android, iOS, Arm boards, x86",
    runtimes=(("executorch", "f32"),),
    takes="float32",
)
COREML = Format(
    name="coreml",
    files=(
        "model.mlpackage/Manifest.json",
        "model.mlpackage/Data/com.apple.CoreML/model.mlmodel",
        "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
    ),
    extra="",
    packages=(),
    readers=(),
    purpose="Core ML",
    runs_on="iOS 16, macOS 13 and newer",
    takes="float32",
    environment="coreml",
    loads_here=False,
    runs_here=False,
)
WEB = Format(
    name="web",
    files=("web/network.onnx", "web/settings.json", "web/index.html"),
    extra="onnx",
    packages=("onnx", "onnxruntime"),
    readers=("onnxruntime",),
    purpose="a page that finds people in the browser",
    runs_on="Chrome, Edge, Firefox, Safari 16.4 and newer, on computers and phones",
    decodes=True,
)

FORMATS = {
    chosen.name: chosen
    for chosen in (
        LITEPOSE,
        SAFETENSORS,
        ONNX,
        ONNX_FP16,
        OPENVINO,
        OPENVINO_INT8,
        NCNN,
        LITERT,
        LITERT_INT8,
        MNN,
        EXECUTORCH,
        COREML,
        TORCH_EXPORT,
        WEB,
    )
}
"""All formats, by name."""
LOADABLE = tuple(name for name, chosen in FORMATS.items() if chosen.loads_here)
"""Formats that this project loads."""

RUNTIMES = {name: (chosen, precision) for chosen in FORMATS.values() for name, precision in chosen.runtimes}
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
        raise missing_packages(purpose, [package], extra)


def format_of(path: Path) -> Format | None:
    """Return the format whose first file has the name of ``path``; None if there is none."""
    return next((candidate for candidate in FORMATS.values() if Path(candidate.files[0]).name == path.name), None)
