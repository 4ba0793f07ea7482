"""Writes a network to the files of phones and small boards, with the converters of their libraries.

Converters are programs of their own: they print, keep state, and some need other versions of this project's packages.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import Tensor

from subnet_export.deployment.deployed_network import DeploymentNetwork, Input
from subnet_export.deployment.environments import ENVIRONMENTS, interpreter, last_error
from subnet_export.deployment.formats import COREML, EXECUTORCH, LITERT, LITERT_INT8, MNN, NCNN, ONNX, Format
from subnet_export.deployment.quantization import calibration_inputs
from supernet.errors import UserError
from supernet.io import files

if TYPE_CHECKING:
    import onnx

CONVERTERS = Path(__file__).parent / "converters"
_COREML_FLOAT32 = 65568
"""Core ML's number for this type."""


def write_ncnn(graph: "onnx.ModelProto", folder: Path) -> None:
    """Convert an ONNX graph with float32 input. Weights stay in float32; two sizes show pnnx which dimensions vary."""
    import pnnx

    shapes = ["inputshape=[1,3,64,64]", "inputshape2=[1,3,96,160]", "fp16=0"]

    def convert(unfinished: Path) -> None:
        _run(NCNN, [pnnx.EXEC_PATH, _onnx_file(graph, unfinished), *shapes], unfinished)

    _convert(NCNN, folder, convert)


def write_mnn(graph: "onnx.ModelProto", folder: Path) -> None:
    """Convert an ONNX graph with float32 input."""

    def convert(unfinished: Path) -> None:
        _run_script(MNN, sys.executable, _onnx_file(graph, unfinished), unfinished)

    _convert(MNN, folder, convert)


def write_executorch(network: DeploymentNetwork, max_side: int, folder: Path) -> None:
    """Convert a network with float32 input, for one image of any size up to ``max_side`` px on each side.

    Whatever the size of its images, a running network takes the memory of a square of ``max_side``.
    """

    def convert(unfinished: Path) -> None:
        _run_script(EXECUTORCH, sys.executable, _archive(network, unfinished), unfinished, str(max_side))

    _convert(EXECUTORCH, folder, convert)


def write_litert_int8(
    content: bytes, takes: Input, images: Sequence[Tensor], in_float: Sequence[str], folder: Path
) -> None:
    """Quantise the LiteRT file of a network; layers whose names match the patterns ``in_float`` stay in float.

    Args:
        content: The file.
        takes: Its input.
        images: Calibration images (B, 3, H, W) uint8, from which the range of every activation is taken.
        in_float: Name patterns.
        folder: Where the quantised file is stored.
    """

    def convert(unfinished: Path) -> None:
        source, inputs = unfinished / LITERT.files[0], unfinished / "images"
        files.write_bytes(source, content)
        _write_arrays(inputs, calibration_inputs(images, takes))
        python = interpreter(ENVIRONMENTS[LITERT_INT8.environment])
        _run_script(LITERT_INT8, str(python), str(source), unfinished, str(inputs), *in_float)

    _convert(LITERT_INT8, folder, convert)


def write_coreml(network: DeploymentNetwork, folder: Path) -> None:
    """Convert a network with float32 input; what the package says about itself is compared with the network.

    Raises:
        UserError: The package has another input, other outputs, or fewer weights.
    """

    def convert(unfinished: Path) -> None:
        python = interpreter(ENVIRONMENTS[COREML.environment])
        output = _run_script(COREML, str(python), _archive(network, unfinished), unfinished)
        sides = [[16, 2048]] * 2
        num = network.network.num_keypoints
        expected = {
            "input": "images",
            "ranges": [[1, 1], [3, 3], *sides],
            "types": [_COREML_FLOAT32] * 3,
            "outputs": {"low": 2 * num, "high": num},
        }
        found: Any = json.loads(output.splitlines()[-1])
        # Small weights are in the description and not in the file of weights.
        weights = [weight.numel() for weight in network.parameters() if weight.numel() >= 16]
        size = (unfinished / COREML.files[2]).stat().st_size
        if found != expected or size < 4 * sum(weights):
            raise UserError(
                f"the Core ML package describes {found} with {size:,} bytes of weights, not {expected} with at least "
                f"{4 * sum(weights):,}; nothing was kept, leave out the format"
            )

    _convert(COREML, folder, convert)


def _convert(chosen: Format, folder: Path, convert: Callable[[Path], None]) -> None:
    """Let ``convert`` write the files of ``chosen`` to a temporary folder, and store them durably in ``folder``."""
    with tempfile.TemporaryDirectory() as temporary:
        unfinished = Path(temporary)
        convert(unfinished)
        for name in chosen.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(folder / name, (unfinished / name).read_bytes())


def _onnx_file(graph: "onnx.ModelProto", folder: Path) -> str:
    path = folder / ONNX.files[0]
    files.write_bytes(path, graph.SerializeToString())
    return str(path)


def _archive(network: DeploymentNetwork, folder: Path) -> str:
    """Write ``network`` as a ``torch.export`` archive for one image of its own resolution."""
    side = network.network.arch.resolution
    shape = (1, side, side, 3) if network.takes == "uint8" else (1, 3, side, side)
    path = folder / "network.pt2"
    torch.export.save(torch.export.export(network, (torch.zeros(shape, dtype=getattr(torch, network.takes)),)), path)
    return str(path)


def _write_arrays(path: Path, arrays: Sequence[npt.NDArray[Any]]) -> None:
    """Write arrays as ``to_litert_int8.py`` reads them."""
    described = [(str(values.dtype), values.shape) for values in arrays]
    content = b"".join(values.tobytes() for values in arrays)
    files.write_bytes(path, json.dumps(described).encode() + b"\n" + content)


def _run_script(chosen: Format, python: str, source: str, folder: Path, *arguments: str) -> str:
    """Let the converter of ``chosen`` write its file or package into ``folder``; return what it printed."""
    script, target = CONVERTERS / f"to_{chosen.name}.py", folder / Path(chosen.files[0]).parts[0]
    return _run(chosen, [python, "-I", str(script), source, str(target), *arguments], folder)


def _run(chosen: Format, command: Sequence[str], folder: Path) -> str:
    """Run a converter, which writes the files of ``chosen`` into ``folder``, and return what it printed.

    Raises:
        UserError: It fails.
    """
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, errors="replace"
    )
    if result.returncode or not all((folder / name).is_file() for name in chosen.files):
        raise UserError(
            f"the converter for format {chosen.name} ended with status {result.returncode} "
            f"({last_error(result.stderr or result.stdout)}); nothing was kept, leave out the format"
        )
    return result.stdout
