"""Writes a kit for devices without this project: a zip of graphs and a script that measures them there.

Thousands of graphs take a few megabytes: the weights of ONNX graphs refer to one file of random numbers, ncnn needs
none, and those of MNN repeat a few numbers, which are packed well.
"""

import json
import math
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search.lut.devices import benchncnn
from search.lut.ncnn_graphs import param_of
from search.lut.onnx_blocks import graph_of, input_shapes, weight_pool
from search.lut.workloads import MeasurementPlan, NoOp, Workload
from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.edge_writers import write_mnn
from subnet_export.deployment.formats import MNN, ONNX, require
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.io import files

if TYPE_CHECKING:
    import onnx

FOLDER, SCRIPT, LIBRARIES, WEIGHTS_FILE = "latency_kit", "measure.py", "libraries.py", "weights.bin"
PACKAGES = {"onnxruntime": "onnxruntime", "ncnn": "ncnn", "mnn": "MNN"}
"""Runtimes that a kit can be for, with the Python package that the device needs."""
REPEATED_WEIGHTS = 1021
"""Number of random weights that MNN's graphs repeat."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_README = """Latency kit for {runtime}

On the device (Python 3.10 or newer):
    pip install {package} numpy
    python measure.py --threads 2

Ctrl-C stops it, and the same command continues from there. Copy measurements.jsonl back and use it:
    {use}
"""
_MERGE = "python -m search.lut merge measurements.jsonl --output table.json"
_TRANSFER = "python -m search.lut transfer TABLE measurements.jsonl --output table.json"


@dataclass(frozen=True)
class KitContents:
    """What a kit holds.

    Attributes:
        plan: What it measures.
        runtime: One of ``PACKAGES``.
        batch: Images per run.
        only_networks: Leaves out the blocks: enough to move a table (:mod:`search.lut.devices.transfer`).
    """

    plan: MeasurementPlan
    runtime: str = "onnxruntime"
    batch: int = 1
    only_networks: bool = False

    def workloads(self) -> dict[str, Workload]:
        """Return the workloads by name."""
        workloads = self.plan.workloads()
        if not self.only_networks:
            return workloads
        return {name: workload for name, workload in workloads.items() if isinstance(workload, NoOp | Arch)}


def check_runtime(runtime: str) -> None:
    """Raise UserError unless a kit can be for ``runtime`` and what makes one is installed."""
    if runtime not in PACKAGES:
        raise UserError(f"there is no kit for runtime {runtime!r}; choose among {', '.join(PACKAGES)}")
    needed = {"onnxruntime": ("onnx",), "ncnn": (), "mnn": ("onnx", "MNN")}[runtime]
    require(needed, MNN.extra if runtime == "mnn" else ONNX.extra, f"a kit for {runtime}")


def write_kit(path: Path, kit: KitContents, advance: Callable[[], None] = lambda: None) -> int:
    """Write a kit and return the number of its workloads.

    Args:
        path: Path of the zip.
        kit: What it holds.
        advance: Called after each graph.

    Raises:
        UserError: See :func:`check_runtime`; or the file cannot be written.
    """
    check_runtime(kit.runtime)
    writer = _WRITERS[kit.runtime](kit.plan.num_keypoints)
    graphs: dict[str, dict[str, Any]] = {}
    written: dict[bytes, str] = {}  # blocks that differ only in the size of their input share a graph
    header = kit.plan.header({})
    del header["settings"]  # the device fills in its own
    with files.atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, workload in kit.workloads().items():
            graph = writer.graph(workload)
            if graph not in written:
                written[graph] = f"{len(written):05}.{writer.suffix}"
                _add(archive, f"graphs/{written[graph]}", writer.content(graph))
            graphs[name] = {"file": written[graph], "inputs": input_shapes(workload, kit.batch, writer.takes)}
            advance()
        manifest = {"header": header, "runtime": kit.runtime, "batch": kit.batch, "graphs": graphs}
        _add(archive, "manifest.json", json.dumps(manifest).encode())
        for script in (SCRIPT, LIBRARIES):
            _add(archive, script, (resources.files("search.lut") / script).read_bytes())
        for place, content in writer.others(graphs).items():
            _add(archive, place, content)
        use = _TRANSFER if kit.only_networks else _MERGE
        _add(
            archive, "README.txt", _README.format(runtime=kit.runtime, package=PACKAGES[kit.runtime], use=use).encode()
        )
    return len(graphs)


class _OnnxWriter:
    """Writes the graphs of a kit. The other writers have the same interface.

    Attributes:
        suffix: Of the files.
        takes: Input of the graphs.
    """

    suffix = "onnx"
    takes: Input = "uint8"

    def __init__(self, num_keypoints: int) -> None:
        self._num_keypoints, self._weights = num_keypoints, SharedWeights()

    def graph(self, workload: Workload) -> bytes:
        """Return what distinguishes the graph of a workload from others."""
        return bytes(graph_of(workload, self._num_keypoints, self._weights).SerializeToString())

    def content(self, graph: bytes) -> bytes:
        """Return the content of a graph's file."""
        return graph

    def others(self, graphs: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the files beside all graphs by their place in the kit."""
        return {f"graphs/{WEIGHTS_FILE}": weight_pool(self._weights.num).tobytes()}


class _NcnnWriter:
    suffix = "param"
    takes: Input = "float32"

    def __init__(self, num_keypoints: int) -> None:
        self._num_keypoints = num_keypoints

    def graph(self, workload: Workload) -> bytes:
        return param_of(workload, self._num_keypoints).encode()

    def content(self, graph: bytes) -> bytes:
        return graph

    def others(self, graphs: Mapping[str, Any]) -> dict[str, bytes]:
        return {benchncnn.SCRIPT: benchncnn.script(graphs).encode()}


class _MnnWriter:
    suffix = "mnn"
    takes: Input = "float32"

    def __init__(self, num_keypoints: int) -> None:
        self._num_keypoints, self._pool = num_keypoints, weight_pool(REPEATED_WEIGHTS)

    def graph(self, workload: Workload) -> bytes:
        graph = graph_of(workload, self._num_keypoints, lambda _, shape: np.resize(self._pool, shape), "float32")
        return bytes(graph.SerializeToString())

    def content(self, graph: bytes) -> bytes:
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            write_mnn(onnx.load_from_string(graph), Path(folder))
            return (Path(folder) / MNN.files[0]).read_bytes()

    def others(self, graphs: Mapping[str, Any]) -> dict[str, bytes]:
        return {}


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


_WRITERS: dict[str, type[_OnnxWriter] | type[_NcnnWriter] | type[_MnnWriter]] = {
    "onnxruntime": _OnnxWriter,
    "ncnn": _NcnnWriter,
    "mnn": _MnnWriter,
}


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a file with a fixed time stamp, so that equal kits are equal bytes."""
    info = zipfile.ZipInfo(f"{FOLDER}/{name}", _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, content)
