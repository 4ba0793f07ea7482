"""Writes a kit for devices without this project: a zip of graphs and a script that measures them there.

Thousands of graphs take a few megabytes: the weights of ONNX graphs refer to one file of random numbers, ncnn needs
none, and those of MNN and LiteRT repeat a few numbers, which are packed well.
"""

import abc
import json
import math
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.lut.devices import benchncnn
from search.lut.graphs.inputs import channels_last, input_shapes, random_weights, weight_pool
from search.lut.graphs.litert_graphs import model_of
from search.lut.graphs.ncnn_graphs import param_of
from search.lut.graphs.onnx_graphs import graph_of
from search.lut.workloads import MeasurementPlan, NoOp, Workload
from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.edge_writers import write_mnn
from subnet_export.deployment.formats import LITERT, MNN, ONNX, require
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.io import files

if TYPE_CHECKING:
    import onnx

FOLDER, SCRIPT, LIBRARIES, WEIGHTS_FILE = "latency_kit", "measure.py", "libraries.py", "weights.bin"
PACKAGES = {"onnxruntime": "onnxruntime", "ncnn": "ncnn", "mnn": "MNN", "litert": "ai-edge-litert"}
"""Runtimes that a kit can be for, with the Python package that the device needs."""
REPEATED_WEIGHTS = 1021
"""Number of random weights that the graphs of MNN and LiteRT repeat."""
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
    extra, needed = _NEEDED[runtime]
    require(needed, extra, f"a kit for {runtime}")


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
    writer = _WRITERS[kit.runtime](kit.plan.num_keypoints, kit.batch)
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
            graphs[name] = {"file": written[graph], "inputs": writer.inputs(workload)}
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


class _Writer(abc.ABC):
    """Writes the graphs of a kit.

    Attributes:
        suffix: Of the files.
        takes: Input of the graphs.
    """

    suffix: str
    takes: Input

    def __init__(self, num_keypoints: int, batch: int) -> None:
        self._num_keypoints, self._batch = num_keypoints, batch

    @abc.abstractmethod
    def graph(self, workload: Workload) -> bytes:
        """Return what distinguishes the graph of a workload from others."""

    def inputs(self, workload: Workload) -> list[tuple[int, ...]]:
        """Return the shapes of the inputs of a workload's graph."""
        return input_shapes(workload, self._batch, self.takes)

    def content(self, graph: bytes) -> bytes:
        """Return the content of a graph's file."""
        return graph

    def others(self, graphs: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the files beside all graphs by their place in the kit."""
        return {}


class _OnnxWriter(_Writer):
    suffix = "onnx"
    takes: Input = "uint8"

    def __init__(self, num_keypoints: int, batch: int) -> None:
        super().__init__(num_keypoints, batch)
        self._weights = SharedWeights()

    def graph(self, workload: Workload) -> bytes:
        return bytes(graph_of(workload, self._num_keypoints, self._weights).SerializeToString())

    def others(self, graphs: Mapping[str, Any]) -> dict[str, bytes]:
        return {f"graphs/{WEIGHTS_FILE}": weight_pool(self._weights.num).tobytes()}


class _NcnnWriter(_Writer):
    suffix = "param"
    takes: Input = "float32"

    def graph(self, workload: Workload) -> bytes:
        return param_of(workload, self._num_keypoints).encode()

    def others(self, graphs: Mapping[str, Any]) -> dict[str, bytes]:
        # ncnn's benchmark runs one image at a time.
        return {benchncnn.SCRIPT: benchncnn.script(graphs).encode()} if self._batch == 1 else {}


class _MnnWriter(_Writer):
    suffix = "mnn"
    takes: Input = "float32"

    def graph(self, workload: Workload) -> bytes:
        weights = random_weights(REPEATED_WEIGHTS)
        return bytes(graph_of(workload, self._num_keypoints, weights, "float32").SerializeToString())

    def content(self, graph: bytes) -> bytes:
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            write_mnn(onnx.load_from_string(graph), Path(folder))
            return (Path(folder) / MNN.files[0]).read_bytes()


class _LiteRtWriter(_Writer):
    suffix = "tflite"
    takes: Input = "uint8"

    def graph(self, workload: Workload) -> bytes:
        return model_of(workload, self._num_keypoints, self._batch, random_weights(REPEATED_WEIGHTS))

    def inputs(self, workload: Workload) -> list[tuple[int, ...]]:
        return [channels_last(shape) for shape in super().inputs(workload)]


class SharedWeights:
    """Weights that refer to the beginning of ``WEIGHTS_FILE`` beside the graph.

    Attributes:
        num: Length that the file must have for all weights so far.
    """

    def __init__(self) -> None:
        self.num = 0

    def __call__(self, name: str, shape: tuple[int, ...]) -> "onnx.TensorProto":
        """Return a tensor that refers to the file; see ``subnet_export.deployment.graphs.layers.Weights``."""
        from onnx import TensorProto

        num = math.prod(shape)
        self.num = max(self.num, num)
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", WEIGHTS_FILE), ("offset", 0), ("length", 4 * num)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


_WRITERS: dict[str, type[_Writer]] = {
    "onnxruntime": _OnnxWriter,
    "ncnn": _NcnnWriter,
    "mnn": _MnnWriter,
    "litert": _LiteRtWriter,
}
_NEEDED = {
    "onnxruntime": (ONNX.extra, ("onnx",)),
    "ncnn": (ONNX.extra, ()),
    "mnn": (MNN.extra, ("onnx", "MNN")),
    "litert": (LITERT.extra, LITERT.readers),
}
"""The group of optional dependencies that installs what makes a kit, and its packages."""


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a file with a fixed time stamp, so that equal kits are equal bytes."""
    info = zipfile.ZipInfo(f"{FOLDER}/{name}", _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, content)
