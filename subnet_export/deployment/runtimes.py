"""Libraries that run an exported network, behind one call: images in, maps out."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.formats import ONNX, OPENVINO, OPENVINO_INT8, Format, require
from supernet.errors import UserError
from supernet.io import files
from supernet.pose.geometry import normalise

_ALWAYS: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError, LookupError)
"""What libraries and numpy say of a file that is no network."""
Precision = Literal["f32", "bf16"]
"""What layers in floating point compute in; the files hold float32 either way."""


class Runtime(Protocol):
    """A network as one library runs it.

    Attributes:
        library: Name and version of the library.
        precision: What it computes in: "f32", "bf16", or "int8" where that is not told by the layers left in float.
    """

    library: str
    precision: str

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Run a batch.

        Args:
            images: (B, 3, H, W) uint8 RGB, H and W multiples of 16; on the CPU and in channels-last order for speed.

        Returns:
            ``low`` (B, 2K, H/4, W/4) and ``high`` (B, K, H/2, W/2), float32, in any memory order.
        """
        ...


class TorchRuntime:
    """A PyTorch network in evaluation mode; ``takes`` as of a ``DeploymentNetwork``, normalised images by default."""

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


class OnnxRuntime:
    """An ONNX file in ONNX Runtime, on the CPU, in float32."""

    precision = "f32"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        require(ONNX.readers, ONNX.extra, f"running {path.name}")
        import onnxruntime

        self.library = f"onnxruntime {onnxruntime.__version__}"
        # What it refers to would be read from elsewhere, and files of ours hold all their weights.
        content = files.read_bytes(path, "model", files.HUGE, "restore the file or export anew")
        if b"location" in content:
            raise UserError(f"{path} refers to other files; give one that this project wrote")
        self._told = functools.partial(_refusal_told, path, _onnx_errors())
        with self._told():
            self._session = onnx_session(content, threads)
            self._takes: Input = "uint8" if "uint8" in self._session.get_inputs()[0].type else "float32"

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Runtime``."""
        inputs = network_input(images, self._takes).contiguous().numpy()
        with self._told():
            low, high = self._session.run(None, {"images": inputs})
            return torch.from_numpy(low), torch.from_numpy(high)


class OpenVinoRuntime:
    """An OpenVINO file on the CPU.

    Outputs are taken in channels-last order, as the library computes them. Putting them into the file's order costs it
    a seventh of the time of a small network compiled for one input size; with the size left open, as here, it moves
    them either way.

    Args:
        path: The ``.xml`` file.
        threads: Those of torch if None.
        precision: Of the layers in float. The library's own default depends on the machine, so it is never left open.
    """

    def __init__(self, path: Path, threads: int | None = None, precision: Precision = "f32") -> None:
        require(OPENVINO.readers, OPENVINO.extra, f"running {path.name}")
        import openvino

        self.library = f"openvino {openvino.__version__.split('-')[0]}"
        check_openvino_precision(precision)
        self._told = functools.partial(_refusal_told, path, ())
        with self._told():
            model = openvino_core().read_model(path)
            self._takes: Input = "uint8" if model.input(0).element_type == openvino.Type.u8 else "float32"
            quantised = any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())
            self.precision = f"int8/{precision}" if quantised else precision
            self._request = openvino_request(model, threads, precision)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Runtime``."""
        inputs = network_input(images, self._takes).contiguous().numpy()
        with self._told():
            found = self._request.infer([inputs], share_inputs=True)
            low, high = (torch.from_numpy(np.asarray(maps)).permute(0, 3, 1, 2) for maps in found.values())
        return low, high


def check_outputs(runtime: Runtime, path: Path, num_keypoints: int) -> None:
    """Run a small black image, and raise UserError if what comes out of the file at ``path`` are no maps."""
    low, high = runtime(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    shapes = (1, 2 * num_keypoints, 16, 16), (1, num_keypoints, 32, 32)
    if any(maps.shape != shape or maps.dtype != torch.float32 for maps, shape in zip((low, high), shapes, strict=True)):
        raise UserError(f"{path} gives no maps of {num_keypoints} keypoints; restore the file or export anew")


def _onnx_errors() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime, which must be installed, raises; its errors have no name in common."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception))


@contextmanager
def _refusal_told(path: Path, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Make a UserError of what a library says of the file at ``path``, which may be no network at all."""
    try:
        yield
    except errors + _ALWAYS as error:
        raise UserError(f"{path} cannot be run ({error}); restore the file or export anew") from error


def onnx_session(model: Path | bytes, threads: int | None = None) -> Any:
    """Open a model in ONNX Runtime, which must be installed, on the CPU; with the threads of torch if None."""
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
    """Return this process's one OpenVINO, which must be installed, with its CPU plugin loaded and never unloaded.

    A loaded plugin gives the thread another stack for signals, and its unloading gives back the one before. Where
    several come and go in no order, what is given back may be gone, and the next signal (Ctrl-C) ends in a crash.
    """
    import openvino

    core = openvino.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")
    return core


def bf16_is_native() -> bool:
    """Whether OpenVINO, which must be installed, computes in bf16 on this processor instead of imitating it."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def check_openvino_precision(precision: Precision) -> None:
    """Raise UserError if OpenVINO, which must be installed, does not compute in ``precision`` on this processor."""
    if precision == "bf16" and not bf16_is_native():
        raise UserError("this CPU does not compute in bf16; choose f32")


def network_input(images: Tensor, takes: Input) -> Tensor:
    """Images (B, 3, H, W) uint8 as a deployed network takes them, in the same memory order."""
    return images.permute(0, 2, 3, 1) if takes == "uint8" else normalise(images)


def open_runtime(
    folder: Path, chosen: Format, precision: Precision = "f32", threads: int | None = None
) -> OnnxRuntime | OpenVinoRuntime:
    """Open the files of a format that a library other than PyTorch runs.

    Raises:
        UserError: The library is not installed, cannot read the file, or does not offer the precision.
    """
    path = folder / chosen.files[0]
    if chosen in (OPENVINO, OPENVINO_INT8):
        return OpenVinoRuntime(path, threads, precision)
    assert chosen is ONNX
    if precision != "f32":
        raise UserError(f"onnxruntime computes in f32 here, not in {precision}; choose f32 or format openvino")
    return OnnxRuntime(path, threads)


def _outputs_channels_last(model: Any) -> None:
    """Transpose the outputs (B, C, H, W) of an OpenVINO model to (B, H, W, C), in place.

    Maps are computed in that order, so nothing need move where the input's size is fixed. But a transposition right
    behind a sum that was fused into a convolution is carried out, twice over; the maximum over one pixel in between,
    which changes nothing, avoids that.
    """
    from openvino import opset13 as operations

    for result in model.get_results():
        one = [1, 1]
        kept = operations.max_pool(result.input_value(0), one, one, [0, 0], [0, 0], one).output(0)
        order = operations.constant([0, 2, 3, 1], dtype=np.int64)
        result.input(0).replace_source_output(operations.transpose(kept, order).output(0))
    model.validate_nodes_and_infer_types()
