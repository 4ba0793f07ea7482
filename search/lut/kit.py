"""Writes a kit for devices without this project: a zip of ONNX graphs and a script that measures them there.

The weights of all graphs refer to one file of random numbers, so that thousands of graphs take a few megabytes.
"""

import json
import math
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.lut.onnx_blocks import graph_of, input_shapes, weight_pool
from search.lut.workloads import MeasurementPlan
from subnet_export.deployment.formats import ONNX, require
from supernet.io import files

if TYPE_CHECKING:
    import onnx

FOLDER, SCRIPT, WEIGHTS_FILE = "latency_kit", "measure.py", "weights.bin"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_README = """Latency kit

On the device (Python 3.10 or newer):
    pip install onnxruntime numpy
    python measure.py --threads 2

Ctrl-C stops it, and the same command continues from there. Copy measurements.jsonl back and make a table of it:
    python -m search.lut merge measurements.jsonl --output table.json
"""


def write_kit(path: Path, plan: MeasurementPlan, batch: int, advance: Callable[[], None] = lambda: None) -> int:
    """Write a kit and return the number of its workloads.

    Args:
        path: Path of the zip.
        plan: What the kit measures.
        batch: Images per run.
        advance: Called after each graph.

    Raises:
        UserError: The package onnx is not installed, or the file cannot be written.
    """
    require(("onnx",), ONNX.extra, "a kit")
    weights = SharedWeights()
    graphs: dict[str, dict[str, Any]] = {}
    written: dict[bytes, str] = {}  # blocks that differ only in the size of their input share a graph
    header = plan.header({})
    del header["settings"]  # the device fills in its own
    with files.atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, workload in plan.workloads().items():
            graph = graph_of(workload, plan.num_keypoints, weights).SerializeToString()
            if graph not in written:
                written[graph] = f"{len(written):05}.onnx"
                _add(archive, f"graphs/{written[graph]}", graph)
            graphs[name] = {"file": written[graph], "inputs": input_shapes(workload, batch)}
            advance()
        _add(archive, f"graphs/{WEIGHTS_FILE}", weight_pool(weights.num).tobytes())
        manifest = {"header": header, "batch": batch, "graphs": graphs}
        _add(archive, "manifest.json", json.dumps(manifest).encode())
        script = resources.files("search.lut") / "measure.py"
        _add(archive, SCRIPT, script.read_bytes())
        _add(archive, "README.txt", _README.encode())
    return len(graphs)


class SharedWeights:
    """Weights that refer to the beginning of ``WEIGHTS_FILE`` beside the graph.

    Attributes:
        num: Length that the file must have for all weights so far.
    """

    def __init__(self) -> None:
        self.num = 0

    def __call__(self, name: str, shape: tuple[int, ...]) -> "onnx.TensorProto":
        """Return a tensor that refers to the file; see ``search.lut.onnx_blocks.Weights``."""
        from onnx import TensorProto

        num = math.prod(shape)
        self.num = max(self.num, num)
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", WEIGHTS_FILE), ("offset", 0), ("length", 4 * num)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a file with a fixed time stamp, so that equal kits are equal bytes."""
    info = zipfile.ZipInfo(f"{FOLDER}/{name}", _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, content)
