"""Libraries that run blocks and whole networks, opened as the exports of this project are opened."""

from typing import Any, Protocol

import numpy as np
import torch

from search.lut.measure import Run, runner
from search.lut.onnx_blocks import graph_of, input_shapes, is_image, random_weights
from search.lut.torch_blocks import torch_block
from search.lut.workloads import Workload
from subnet_export.deployment.formats import ONNX, OPENVINO, require
from subnet_export.deployment.runtimes import (
    Precision,
    check_openvino_precision,
    onnx_session,
    openvino_core,
    openvino_request,
)
from supernet.arch import Arch
from supernet.compute.machine import machine as describe_machine
from supernet.costs.latency_table import MeasurementSettings
from supernet.errors import UserError

PRECISIONS = {"onnxruntime": ("f32",), "openvino": ("f32", "bf16"), "torch": ("f32", "bf16", "f16")}
"""Runtimes, and what each can be asked to compute in."""
_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


class Runtime(Protocol):
    """A library with its settings."""

    settings: MeasurementSettings

    def open(self, subject: Workload) -> Run:
        """Return a function that runs a block, a network or nothing once, and returns when that is done."""
        ...


def open_engine(
    runtime: str, precision: str, threads: int, batch: int, num_keypoints: int, device: torch.device
) -> Runtime:
    """Open a runtime.

    Raises:
        UserError: It is not installed, or does not offer the precision or device.
    """
    if runtime not in PRECISIONS:
        raise UserError(f"there is no runtime {runtime!r}; choose among {', '.join(PRECISIONS)}")
    if precision not in PRECISIONS[runtime]:
        raise UserError(f"{runtime} computes in {', '.join(PRECISIONS[runtime])} here, not in {precision}; choose one")
    if device.type != "cpu" and runtime != "torch":
        raise UserError(f"{runtime} runs on the CPU here, not on {device}; choose device cpu or runtime torch")
    if runtime == "torch":
        return TorchEngine(precision, threads, batch, num_keypoints, device)
    needed = ("onnx", *(ONNX if runtime == "onnxruntime" else OPENVINO).readers)
    require(needed, "onnx" if runtime == "onnxruntime" else "openvino", f"runtime {runtime}")
    kind = OnnxEngine if runtime == "onnxruntime" else OpenVinoEngine
    return kind(precision, threads, batch, num_keypoints)


class OnnxEngine:
    """ONNX Runtime on the CPU."""

    library = "onnxruntime"

    def __init__(self, precision: str, threads: int, batch: int, num_keypoints: int) -> None:
        self._num_keypoints, self._weights = num_keypoints, random_weights()
        self._last: tuple[bytes, Any] = (b"", None)
        self.settings = _settings(self.library, self._version(), precision, threads, batch)

    def open(self, subject: Workload) -> Run:
        """See ``Runtime``; blocks that differ in nothing but their size share a graph while they follow each other."""
        graph = self._graph(subject)
        if isinstance(subject, Arch) or graph != self._last[0]:
            self._last = (graph, onnx_session(graph, self.settings.threads))
        return runner(self._last[1], input_shapes(subject, self.settings.batch))

    def _graph(self, subject: Workload) -> bytes:
        return bytes(graph_of(subject, self._num_keypoints, self._weights).SerializeToString())

    def _version(self) -> str:
        import onnxruntime

        return str(onnxruntime.__version__)


class OpenVinoEngine(OnnxEngine):
    """OpenVINO on the CPU; maps go in and out in channels-last order, as it computes them."""

    library = "openvino"

    def __init__(self, precision: str, threads: int, batch: int, num_keypoints: int) -> None:
        self._precision: Precision = "bf16" if precision == "bf16" else "f32"
        check_openvino_precision(self._precision)
        super().__init__(precision, threads, batch, num_keypoints)

    def open(self, subject: Workload) -> Run:
        """See ``Runtime``; networks take any size, as exports do, and blocks one.

        What it costs to find sizes at run time and to hand outputs over, blocks do not pay inside a network.
        """
        model, shapes = openvino_core().read_model(self._graph(subject)), input_shapes(subject, self.settings.batch)
        is_block = not isinstance(subject, Arch)
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


class TorchEngine:
    """PyTorch without a compiler, on the CPU or a GPU, in channels-last order."""

    def __init__(self, precision: str, threads: int, batch: int, num_keypoints: int, device: torch.device) -> None:
        self._num_keypoints, self._device, self._dtype = num_keypoints, device, _DTYPES[precision]
        self.settings = _settings("torch", torch.__version__, precision, threads, batch, device)

    def open(self, subject: Workload) -> Run:
        """See ``Runtime``."""
        module, shapes = torch_block(subject, self._num_keypoints, self.settings.batch, self._dtype)
        module.to(self._device)
        generator = torch.Generator().manual_seed(0)
        inputs = [_noise(shape, generator, self._dtype).to(self._device) for shape in shapes]
        threads, is_gpu = self.settings.threads, self._device.type == "cuda"

        def run() -> None:
            with torch.inference_mode():
                module(*inputs)
            if is_gpu:
                torch.cuda.synchronize(self._device)

        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return run


def _settings(
    runtime: str, version: str, precision: str, threads: int, batch: int, device: torch.device | None = None
) -> MeasurementSettings:
    machine = describe_machine()
    is_gpu = device is not None and device.type == "cuda"
    name = torch.cuda.get_device_name(device) if is_gpu else str(machine["processor"])
    return MeasurementSettings(runtime, version, name, str(machine["system"]), threads, precision, batch)


def _noise(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
    """Return noise: images (B, H, W, 3) in uint8, maps (B, C, H, W) in channels-last order."""
    if is_image(shape):
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)


def _inputs_channels_last(model: Any) -> None:
    """Let the inputs (B, C, H, W) in float of an OpenVINO model be (B, H, W, C), in place."""
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
