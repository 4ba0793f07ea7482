"""Runtimes that run blocks and whole networks, with the same settings as exported models."""

import hashlib
import platform
import tempfile
from collections.abc import Callable, Hashable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from search.lut.graphs.executorch_graphs import program_of, shapes_of
from search.lut.graphs.inputs import channels_last, input_shapes, is_image, random_weights
from search.lut.graphs.litert_graphs import model_of
from search.lut.graphs.ncnn_graphs import param_of
from search.lut.graphs.onnx_graphs import graph_of
from search.lut.graphs.torch_blocks import torch_block
from search.lut.libraries import LibraryError, LiteRtLibrary, MnnLibrary, NcnnLibrary, runner
from search.lut.measure import Run
from search.lut.workloads import NoOp, Workload
from subnet_export.deployment.edge_runtimes import ExecuTorchProgram, output_of_libraries_on_stderr, silent_stderr
from subnet_export.deployment.edge_writers import write_mnn
from subnet_export.deployment.formats import EXECUTORCH, LITERT, MNN, NCNN, ONNX, OPENVINO, Format, require
from subnet_export.deployment.runtimes import (
    Precision,
    check_openvino_precision,
    onnx_session,
    openvino_core,
    openvino_request,
)
from supernet.arch import Arch
from supernet.compute.device import device_name, synchronise
from supernet.costs.latency_table import LatencyTable, MeasurementSettings, check_settings
from supernet.errors import UserError
from supernet.io import files

PRECISIONS = {
    "onnxruntime": ("f32",),
    "openvino": ("f32", "bf16"),
    "ncnn": ("f32",),
    "mnn": ("f32",),
    "litert": ("f32",),
    "executorch": ("f32",),
    "torch": ("f32", "bf16", "f16"),
}
"""Runtimes with the precisions that each offers."""
_CPU = torch.device("cpu")
_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


class Runtime(Protocol):
    """A library that runs workloads, with its settings."""

    settings: MeasurementSettings

    def open(self, workload: Workload) -> Run:
        """Return a function that runs a workload once and returns when it has finished."""
        ...


def open_runtime(
    name: str, precision: str, threads: int, batch: int, num_keypoints: int, device: torch.device
) -> Runtime:
    """Open a runtime.

    Raises:
        UserError: There is none of this name, it is not installed, or does not offer the precision or device.
    """
    if name not in PRECISIONS:
        raise UserError(f"there is no runtime {name!r}; choose among {', '.join(PRECISIONS)}")
    if precision not in PRECISIONS[name]:
        raise UserError(f"{name} computes in {', '.join(PRECISIONS[name])} here, not in {precision}; choose one")
    if device.type != "cpu" and name != "torch":
        raise UserError(f"{name} runs on the CPU here, not on {device}; choose device cpu or runtime torch")
    if name == "torch":
        return TorchRuntime(precision, threads, batch, num_keypoints, device)
    kind, extra, needed = _OF_LIBRARIES[name]
    require(needed, extra, f"runtime {name}")
    try:
        return kind(precision, threads, batch, num_keypoints)
    except LibraryError as error:
        raise UserError(str(error)) from error


def runtime_of(table: LatencyTable) -> Runtime:
    """Open the runtime that a table was measured with, on the device of the table.

    Raises:
        UserError: This machine has no such device, whatever runtimes it has; or see :func:`open_runtime`.
    """
    settings = table.settings
    kinds = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    devices = {device_name(device): device for device in (*map(torch.device, kinds), _CPU)}
    if settings.device not in devices:
        check_settings(settings, replace(settings, device=device_name(_CPU)))
    device = devices[settings.device]
    return open_runtime(
        settings.runtime, settings.precision, settings.threads, settings.batch, table.num_keypoints, device
    )


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    library = "onnxruntime"

    def __init__(self, precision: str, threads: int, batch: int, num_keypoints: int) -> None:
        self._num_keypoints, self._weights = num_keypoints, random_weights()
        self._last: tuple[bytes, Any] = (b"", None)
        self.settings = _settings(self.library, self._version(), precision, threads, batch)

    def open(self, workload: Workload) -> Run:
        """See ``Runtime``; consecutive blocks that differ only in their size share a graph."""
        graph = self._graph(workload)
        if isinstance(workload, Arch) or graph != self._last[0]:
            self._last = (graph, onnx_session(graph, self.settings.threads))
        return runner(self._last[1], input_shapes(workload, self.settings.batch))

    def _graph(self, workload: Workload) -> bytes:
        return bytes(graph_of(workload, self._num_keypoints, self._weights).SerializeToString())

    def _version(self) -> str:
        import onnxruntime

        return str(onnxruntime.__version__)


class OpenVinoRuntime(OnnxRuntime):
    """OpenVINO on the CPU; maps are passed in channels-last order, in which it computes."""

    library = "openvino"

    def __init__(self, precision: str, threads: int, batch: int, num_keypoints: int) -> None:
        self._precision: Precision = "bf16" if precision == "bf16" else "f32"
        check_openvino_precision(self._precision)
        super().__init__(precision, threads, batch, num_keypoints)

    def open(self, workload: Workload) -> Run:
        """See ``Runtime``; networks accept any input size, as exports do, and blocks a single one.

        Inside a network, blocks do not pay for finding sizes at run time or for copying outputs.
        """
        model, shapes = openvino_core().read_model(self._graph(workload)), input_shapes(workload, self.settings.batch)
        is_block = not isinstance(workload, Arch)
        if is_block:
            model.reshape(dict(enumerate(shapes)))
        _inputs_channels_last(model)
        request = openvino_request(model, self.settings.threads, self._precision)
        rng, inputs = np.random.default_rng(0), []
        for shape in shapes:
            if is_image(shape):
                inputs.append(rng.integers(0, 256, shape, np.uint8))
            else:
                inputs.append(rng.standard_normal([shape[0], *shape[2:], shape[1]], np.float32))
        return lambda: request.infer(inputs, share_inputs=True, share_outputs=is_block)

    def _version(self) -> str:
        import openvino

        return str(openvino.__version__).split("-")[0]


class NcnnRuntime:
    """ncnn on the CPU; images are normalised before, as exports for ncnn expect them."""

    def __init__(self, precision: str, threads: int, batch: int, num_keypoints: int) -> None:
        self._num_keypoints, self._library = num_keypoints, NcnnLibrary(threads)
        self.settings = _settings("ncnn", self._library.version, precision, threads, batch)

    def open(self, workload: Workload) -> Run:
        """See ``Runtime``."""
        net = self._library.open_text(param_of(workload, self._num_keypoints))
        return self._library.runner(net, input_shapes(workload, self.settings.batch, "float32"))


class MnnRuntime:
    """MNN on the CPU; images are normalised before, as exports for MNN expect them."""

    def __init__(self, precision: str, threads: int, batch: int, num_keypoints: int) -> None:
        self._num_keypoints, self._weights = num_keypoints, random_weights()
        self._files = _KeptFiles(MNN)
        with output_of_libraries_on_stderr():
            self._library = MnnLibrary(threads)
        self.settings = _settings("mnn", self._library.version, precision, threads, batch)

    def open(self, workload: Workload) -> Run:
        """See ``Runtime``."""
        graph = graph_of(workload, self._num_keypoints, self._weights, "float32")
        digest = hashlib.sha256(graph.SerializeToString()).digest()
        module = self._library.open(self._files.path(digest, lambda path: write_mnn(graph, path.parent)))
        return self._library.runner(module, input_shapes(workload, self.settings.batch, "float32"))


class LiteRtRuntime:
    """LiteRT on the CPU."""

    def __init__(self, precision: str, threads: int, batch: int, num_keypoints: int) -> None:
        self._num_keypoints, self._library, self._weights = num_keypoints, LiteRtLibrary(threads), random_weights()
        self._last: tuple[bytes, Any] = (b"", None)
        self.settings = _settings("litert", self._library.version, precision, threads, batch)

    def open(self, workload: Workload) -> Run:
        """See ``Runtime``; consecutive blocks that differ only in their size share a file."""
        batch = self.settings.batch
        content = model_of(workload, self._num_keypoints, batch, self._weights)
        if content != self._last[0]:
            self._last = (content, self._library.open_content(content))
        shapes = [channels_last(shape) for shape in input_shapes(workload, batch)]
        return self._library.runner(self._last[1], shapes)


class ExecuTorchRuntime:
    """ExecuTorch with XNNPACK; images are normalised before, as exports for ExecuTorch expect them.

    Inside a network, blocks do not pay for copying inputs and outputs.
    """

    def __init__(self, precision: str, threads: int, batch: int, num_keypoints: int) -> None:
        self._num_keypoints, self._weights, self._files = num_keypoints, random_weights(), _KeptFiles(EXECUTORCH)
        self.settings = _settings("executorch", version("executorch"), precision, threads, batch)
        try:
            with silent_stderr():
                program_of(NoOp(), num_keypoints, self._weights)
        except (ImportError, AttributeError, TypeError) as error:  # it has no stable interface for writing files
            raise LibraryError(
                f"executorch {self.settings.runtime_version} cannot write files of blocks ({error}); install 1.5"
            ) from error

    def open(self, workload: Workload) -> Run:
        """See ``Runtime``."""

        def write(path: Path) -> None:
            files.write_bytes(path, program_of(workload, self._num_keypoints, self._weights))

        content = self._files.path(workload, write).read_bytes()
        program, generator = ExecuTorchProgram(content, self.settings.threads), torch.Generator().manual_seed(0)
        inputs = [torch.randn(shape, generator=generator) for shape in shapes_of(workload)]
        is_network, num_images = isinstance(workload, Arch), self.settings.batch

        def run() -> None:
            for _ in range(num_images):  # a file takes one image at a time
                program(inputs, copies=is_network)

        return run


class TorchRuntime:
    """PyTorch without a compiler, on the CPU or a GPU, in channels-last order."""

    def __init__(self, precision: str, threads: int, batch: int, num_keypoints: int, device: torch.device) -> None:
        self._num_keypoints, self._device, self._dtype = num_keypoints, device, _DTYPES[precision]
        self.settings = _settings("torch", torch.__version__, precision, threads, batch, device)

    def open(self, workload: Workload) -> Run:
        """See ``Runtime``."""
        module, shapes = torch_block(workload, self._num_keypoints, self.settings.batch, self._dtype)
        module.to(self._device)
        generator = torch.Generator().manual_seed(0)
        inputs = [_noise(shape, generator, self._dtype).to(self._device) for shape in shapes]
        threads = self.settings.threads

        def run() -> None:
            with torch.inference_mode():
                module(*inputs)
            synchronise(self._device)

        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return run


class _KeptFiles:
    """Files of a format that are kept until the end, because writing one takes longer than a visit."""

    def __init__(self, chosen: Format) -> None:
        self._name, self._paths = chosen.files[0], dict[Hashable, Path]()
        self._folder = tempfile.TemporaryDirectory(prefix=f"litepose-{chosen.name}-")

    def path(self, key: Hashable, write: Callable[[Path], None]) -> Path:
        """Return the file of ``key``, which ``write`` writes if there is none yet."""
        if key not in self._paths:
            path = Path(self._folder.name) / str(len(self._paths)) / self._name
            path.parent.mkdir(exist_ok=True)
            write(path)
            self._paths[key] = path
        return self._paths[key]


def _settings(
    runtime: str, version: str, precision: str, threads: int, batch: int, device: torch.device = _CPU
) -> MeasurementSettings:
    return MeasurementSettings(runtime, version, device_name(device), platform.platform(), threads, precision, batch)


def _noise(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
    """Return noise: images (B, H, W, 3) in uint8, maps (B, C, H, W) in channels-last order."""
    if is_image(shape):
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)


def _inputs_channels_last(model: Any) -> None:
    """Change the float inputs (B, C, H, W) of an OpenVINO model to (B, H, W, C) in place."""
    from openvino import PartialShape
    from openvino import opset13 as operations

    for parameter in model.get_parameters():
        if parameter.element_type.is_integral():
            continue
        batch, channels, height, width = parameter.partial_shape
        consumers = list(parameter.output(0).get_target_inputs())
        parameter.set_partial_shape(PartialShape([batch, height, width, channels]))
        order = operations.constant([0, 3, 1, 2], dtype=np.int64)
        maps = operations.transpose(parameter, order)
        for consumer in consumers:
            consumer.replace_source_output(maps.output(0))
    model.validate_nodes_and_infer_types()


_OF_LIBRARIES: dict[str, tuple[Callable[[str, int, int, int], Runtime], str, tuple[str, ...]]] = {
    "onnxruntime": (OnnxRuntime, ONNX.extra, ("onnx", *ONNX.readers)),
    "openvino": (OpenVinoRuntime, OPENVINO.extra, ("onnx", *OPENVINO.readers)),
    "ncnn": (NcnnRuntime, NCNN.extra, NCNN.readers),
    "mnn": (MnnRuntime, MNN.extra, ("onnx", *MNN.readers)),
    "litert": (LiteRtRuntime, LITERT.extra, LITERT.readers),
    "executorch": (ExecuTorchRuntime, EXECUTORCH.extra, EXECUTORCH.readers),
}
"""Classes of libraries other than PyTorch, the optional dependency group that installs their packages, and these."""
