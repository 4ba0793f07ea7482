"""The kit for devices without this project: a zip of ONNX graphs and one script that measures them there.

Weights are the same random numbers in every graph: one file that all refer to, so that thousands of graphs are a few
megabytes.
"""

import json
import math
import zipfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.lut.onnx_blocks import graph_of, input_shapes, weight_pool
from search.lut.workloads import header, workloads
from subnet_export.deployment.formats import ONNX, require
from supernet.arch import Arch
from supernet.io import files
from supernet.space import SearchSpace

if TYPE_CHECKING:
    import onnx

FOLDER, SCRIPT, WEIGHTS_FILE = "latency_kit", "measure.py", "weights.bin"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_README = """Latency kit

On the device (Python 3.10 or newer):
    pip install onnxruntime numpy
    python measure.py --threads 2

Ctrl-C stops it, the same command goes on from there. Bring measurements.jsonl back and make a table of it:
    python -m search.lut merge measurements.jsonl --output table.json
"""


def write_kit(
    path: Path,
    space: SearchSpace,
    num_keypoints: int,
    networks: Sequence[Arch],
    batch: int,
    advance: Callable[[], None] = lambda: None,
) -> int:
    """Write a kit and return how many blocks and networks it measures.

    Args:
        path: Of the zip.
        space: Whose blocks are measured.
        num_keypoints: Of the networks.
        networks: Whole networks to fit the overhead on.
        batch: Images a run.
        advance: Called after each graph.

    Raises:
        UserError: The package onnx is not installed, or the file cannot be written.
    """
    require(("onnx",), ONNX.extra, "a kit")
    found, weights = workloads(space, num_keypoints, networks), SharedWeights()
    graphs: dict[str, dict[str, Any]] = {}
    written: dict[bytes, str] = {}  # blocks that differ in nothing but the size of their input are one graph
    head = header(space, num_keypoints, networks, {})
    del head["settings"]  # the device's, filled in there
    with files.atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, subject in found.items():
            graph = graph_of(subject, num_keypoints, weights).SerializeToString()
            if graph not in written:
                written[graph] = f"{len(written):05}.onnx"
                _add(archive, f"graphs/{written[graph]}", graph)
            graphs[name] = {"file": written[graph], "inputs": input_shapes(subject, batch)}
            advance()
        _add(archive, f"graphs/{WEIGHTS_FILE}", weight_pool(weights.num).tobytes())
        manifest = {"header": head, "batch": batch, "graphs": graphs}
        _add(archive, "manifest.json", json.dumps(manifest).encode())
        script = resources.files("search.lut") / "measure.py"
        _add(archive, SCRIPT, script.read_bytes())
        _add(archive, "README.txt", _README.encode())
    return len(graphs)


class SharedWeights:
    """Weights that refer to the beginning of ``WEIGHTS_FILE``, beside the graph.

    Attributes:
        num: Numbers that the file must hold for all weights there were so far.
    """

    def __init__(self) -> None:
        self.num = 0

    def __call__(self, name: str, shape: tuple[int, ...]) -> "onnx.TensorProto":
        """Return a tensor without content; see ``search.lut.onnx_blocks.Weights``."""
        from onnx import TensorProto

        num = math.prod(shape)
        self.num = max(self.num, num)
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", WEIGHTS_FILE), ("offset", 0), ("length", 4 * num)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a file with a fixed time, so that the same kit is the same bytes."""
    info = zipfile.ZipInfo(f"{FOLDER}/{name}", _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, content)
