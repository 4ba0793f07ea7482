"""Opens the files of a format in the library that runs them.

To add a library, write a class with the constructor of ``OnnxRuntime`` and the interface ``Runtime``, and enter it in
``LIBRARY_RUNTIMES`` for each format that it runs.
"""

from collections.abc import Callable
from pathlib import Path

from subnet_export.deployment.edge_runtimes import ExecuTorchRuntime, LiteRtRuntime, MnnRuntime, NcnnRuntime
from subnet_export.deployment.formats import (
    EXECUTORCH,
    LITERT,
    LITERT_INT8,
    MNN,
    NCNN,
    ONNX,
    ONNX_FP16,
    OPENVINO,
    OPENVINO_INT8,
    WEB,
    Format,
)
from subnet_export.deployment.runtimes import OnnxHalfRuntime, OnnxRuntime, OpenVinoRuntime, Precision, Runtime

DECODING_RUNTIMES: dict[str, type[OnnxRuntime] | type[OpenVinoRuntime]] = {
    ONNX.name: OnnxRuntime,
    OPENVINO.name: OpenVinoRuntime,
    WEB.name: OnnxRuntime,
}
"""Classes that also run the files of a format whose graphs decode, by the format's name."""
LIBRARY_RUNTIMES: dict[str, Callable[[Path, Precision], Runtime]] = {
    **DECODING_RUNTIMES,
    ONNX_FP16.name: OnnxHalfRuntime,
    OPENVINO_INT8.name: OpenVinoRuntime,
    NCNN.name: NcnnRuntime,
    LITERT.name: LiteRtRuntime,
    LITERT_INT8.name: LiteRtRuntime,
    MNN.name: MnnRuntime,
    EXECUTORCH.name: ExecuTorchRuntime,
}
"""Classes that run the files of a format without PyTorch, by the format's name."""


def open_runtime(folder: Path, chosen: Format, precision: Precision = "f32") -> Runtime:
    """Open the files of a format in ``LIBRARY_RUNTIMES``, with torch's number of threads.

    Raises:
        UserError: The library is not installed, cannot read the file, or does not offer the precision.
    """
    return LIBRARY_RUNTIMES[chosen.name](folder / chosen.files[0], precision)
