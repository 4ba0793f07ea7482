"""Runs an exported network in different libraries behind one interface: images in, maps out.

Other libraries are in :mod:`subnet_export.deployment.edge_runtimes`; all of them are opened through
:mod:`subnet_export.deployment.library_runtimes`.
"""

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from subnet_export.decoding.graph import DETECTIONS
from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.formats import ONNX, OPENVINO, Format, require
from supernet.errors import UserError
from supernet.io import files
from supernet.pose.geometry import normalise

_FILE_ERRORS: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError, LookupError)
"""Exceptions that libraries and numpy raise for a file that is not a network."""
Precision = Literal["f32", "bf16"]
"""Precision in which floating-point layers compute; the files hold float32 either way."""


class Runtime(Protocol):
    """A network that one library runs.

    Attributes:
        library: Name and version of the library.
        precision: "f32" or "bf16"; for a quantised file "int8/" and the precision of the layers in float.
    """

    library: str
    precision: str

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Run a batch; several threads may do so at once.

        Args:
            images: (B, 3, H, W) uint8 RGB, H and W multiples of 16; on the CPU and in channels-last order for speed.

        Returns:
            ``low`` (B, 2K, H/4, W/4) and ``high`` (B, K, H/2, W/2), float32, in any memory order.
        """
        ...


class TorchRuntime:
    """A network in PyTorch, in float32.

    Args:
        network: In evaluation mode.
        takes: Kind of input of ``network``.
    """

    precision = "f32"

    def __init__(self, network: nn.Module, takes: Input = "float32") -> None:
        self.library = f"torch {torch.__version__}{' exported' * (takes == 'uint8')}"
        self._network, self._takes = network, takes
        self._device = next(network.parameters()).device

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Runtime``; the maps stay on the network's device."""
        with torch.inference_mode():
            low, high = self._network(network_input(images.to(self._device), self._takes))
        return low, high


def names_other_files(content: bytes) -> bool:
    """Return whether weights of an ONNX file lie in other files, of any path that it names; ours never do.

    Protocol Buffers write such a path under the key "location", after the key's length: a number that ends in the byte
    8, or in 0 if it is padded. Text, such as the name of a keypoint, has another character or a quotation mark there.
    """
    return re.search(rb"[\x00\x08]location", content) is not None


class OnnxRuntime:
    """An ONNX file in ONNX Runtime, on the CPU with torch's number of threads, in float32.

    Args:
        path: The ``.onnx`` file.
        precision: "f32"; ONNX Runtime offers no other here.

    Raises:
        UserError: The library is not installed, cannot read the file, or does not offer the precision.
    """

    precision = "f32"

    def __init__(self, path: Path, precision: Precision = "f32") -> None:
        check_library(ONNX, path, precision)
        import onnxruntime

        self._path, self.library = path, f"onnxruntime {onnxruntime.__version__}"
        content = files.read_bytes(path, "model", files.HUGE, "restore the file or export again")
        if names_other_files(content):
            raise UserError(f"{path} refers to other files; give a file that this project wrote")
        self._explain_errors = functools.partial(explain_errors, path, _onnx_errors())
        with self._explain_errors():
            self._session = onnx_session(content)
            self._takes: Input = "uint8" if "uint8" in self._session.get_inputs()[0].type else "float32"

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Runtime``."""
        low, high = _maps(self._path, self.outputs(images))
        return low, high

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Return all outputs of the graph for images as of ``Runtime``."""
        inputs = network_input(images, self._takes).contiguous().numpy()
        with self._explain_errors():
            return [torch.from_numpy(output) for output in self._session.run(None, {"images": inputs})]


class OnnxHalfRuntime(OnnxRuntime):
    """An ONNX file with 16-bit floats inside; ONNX Runtime computes in 32 bits where the processor has no faster way.

    Args:
        path: As for ``OnnxRuntime``, like the others.
        precision: "f32": the file decides.
    """

    precision = "f16"


class OpenVinoRuntime:
    """An OpenVINO file on the CPU, with torch's number of threads.

    Outputs are taken in channels-last order, as the library computes them. For a small network that is compiled for one
    input size, transposing them into the file's order takes a seventh of the time; with open sizes, as here, OpenVINO
    transposes them either way.

    Args:
        path: The ``.xml`` file.
        precision: Of the layers in float. Always set, as the library's default depends on the machine.

    Raises:
        UserError: The library is not installed, cannot read the file, or does not offer the precision.
    """

    def __init__(self, path: Path, precision: Precision = "f32") -> None:
        require(OPENVINO.readers, OPENVINO.extra, f"running {path.name}")
        import openvino

        self._path, self.library = path, f"openvino {openvino.__version__.split('-')[0]}"
        check_openvino_precision(precision)
        self._explain_errors = functools.partial(explain_errors, path, ())
        with self._explain_errors():
            model = openvino_core().read_model(path)
            self._takes: Input = "uint8" if model.input(0).element_type == openvino.Type.u8 else "float32"
            quantised = any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())
            self.precision = f"int8/{precision}" if quantised else precision
            self._request = openvino_request(model, precision=precision)
        self._lock = threading.Lock()  # a request runs one batch at a time, and mixes those of several threads

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Runtime``."""
        low, high = _maps(self._path, self.outputs(images))
        return low.permute(0, 3, 1, 2), high.permute(0, 3, 1, 2)

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Return all outputs of the graph for images as of ``Runtime``; maps are (B, H, W, C)."""
        inputs = network_input(images, self._takes).contiguous().numpy()
        with self._lock, self._explain_errors():
            outputs = self._request.infer([inputs], share_inputs=True)
            return [torch.from_numpy(np.asarray(output)) for output in outputs.values()]


def check_library(chosen: Format, path: Path, precision: Precision) -> None:
    """Raise UserError if the library of ``chosen`` is not installed or computes its files not in ``precision``."""
    if precision != "f32":
        library = chosen.runtimes[0][0]
        raise UserError(f"{library} computes in f32 here, not in {precision}; choose f32 or format openvino")
    require(chosen.readers, chosen.extra, f"running {path.name}")


def _maps(path: Path, outputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the two outputs of the file at ``path``, with four axes each, or raise UserError."""
    if [maps.ndim for maps in outputs] != [4, 4]:
        raise UserError(
            f"{path} does not give the maps low and high of a network; restore the file, or export it without --decode"
        )
    low, high = outputs
    return low, high


def check_outputs(runtime: Runtime, path: Path, num_keypoints: int) -> None:
    """Run a small black image and check the shapes of the maps.

    Raises:
        UserError: The file at ``path``, which ``runtime`` runs, does not give maps of ``num_keypoints`` keypoints.
    """
    low, high = runtime(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    shapes = (1, 2 * num_keypoints, 16, 16), (1, num_keypoints, 32, 32)
    if any(maps.shape != shape or maps.dtype != torch.float32 for maps, shape in zip((low, high), shapes, strict=True)):
        raise UserError(f"{path} does not give maps of {num_keypoints} keypoints; restore the file or export again")


def _onnx_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that ONNX Runtime, which must be installed, raises; they have no base class in common."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))


@contextmanager
def explain_errors(path: Path, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn exceptions that a library raises for the file at ``path``, which may not be a network, into a UserError."""
    try:
        yield
    except errors + _FILE_ERRORS as error:
        raise UserError(f"{path} cannot be run ({error}); restore the file or export again") from error


def onnx_session(model: Path | bytes, threads: int | None = None) -> Any:
    """Open a model in ONNX Runtime, which must be installed, on the CPU; with torch's number of threads if None."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def openvino_request(model: Any, threads: int | None = None, precision: Precision = "f32") -> Any:
    """Compile a model that OpenVINO read, with its outputs in channels-last order; see ``OpenVinoRuntime``."""
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    _outputs_channels_last(model)
    return openvino_core().compile_model(model, "CPU", settings).create_infer_request()


@functools.cache
def openvino_core() -> Any:
    """Return the single OpenVINO core of this process, with its CPU plugin loaded and never unloaded.

    OpenVINO must be installed. Loading a plugin replaces the thread's signal stack, and unloading it restores the
    previous one. If several plugins are loaded and unloaded in any order, the restored stack may be freed memory, and
    the next signal (Ctrl-C) crashes the process.
    """
    import openvino

    core = openvino.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")
    return core


def bf16_is_native() -> bool:
    """Whether OpenVINO, which must be installed, computes natively in bf16 on this processor."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def check_openvino_precision(precision: Precision) -> None:
    """Raise UserError if OpenVINO, which must be installed, does not compute in ``precision`` on this processor."""
    if precision == "bf16" and not bf16_is_native():
        raise UserError("this CPU does not compute in bf16; choose precision f32")


def network_input(images: Tensor, takes: Input) -> Tensor:
    """Return images (B, 3, H, W) uint8 as a deployed network takes them, in the same memory order."""
    return images.permute(0, 2, 3, 1) if takes == "uint8" else normalise(images)


def _outputs_channels_last(model: Any) -> None:
    """Transpose the outputs (B, C, H, W) of an OpenVINO model to (B, H, W, C), in place.

    OpenVINO computes maps in that order, so with a fixed input size this moves no data. However, a transpose directly
    after a sum that was fused into a convolution is executed, and twice. The maximum over one pixel in between changes
    no value and avoids that.
    """
    from openvino import opset13 as operations

    for result in model.get_results():
        if DETECTIONS in result.output(0).get_names():  # no maps
            continue
        pixel = [1, 1]
        maps = operations.max_pool(result.input_value(0), pixel, pixel, [0, 0], [0, 0], pixel).output(0)
        order = operations.constant([0, 2, 3, 1], dtype=np.int64)
        result.input(0).replace_source_output(operations.transpose(maps, order).output(0))
    model.validate_nodes_and_infer_types()
