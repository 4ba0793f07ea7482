"""Writes a network to the files of each format. Nothing here runs or checks what was written.

To add a format, write its writer, here or in :mod:`subnet_export.deployment.edge_writers`, and enter it in ``WRITERS``,
or in ``QUANTISED_WRITERS`` if it changes the maps. What several writers need, such as the ONNX graph, is a property of
``WriterInputs``.
"""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from subnet_export.browser.folder import FOLDER, write_page
from subnet_export.browser.onnxruntime_web import PageRuntime, page_runtime
from subnet_export.decoding.description import METADATA_KEY, Decoding
from subnet_export.decoding.graph import complete
from subnet_export.deployment.deployed_network import DeploymentNetwork, Input
from subnet_export.deployment.edge_writers import (
    write_coreml,
    write_executorch,
    write_litert_int8,
    write_mnn,
    write_ncnn,
)
from subnet_export.deployment.formats import (
    COREML,
    EXECUTORCH,
    LITERT,
    LITERT_INT8,
    MNN,
    NCNN,
    ONNX,
    ONNX_FP16,
    OPENVINO,
    OPENVINO_INT8,
    SAFETENSORS,
    TORCH_EXPORT,
    WEB,
    Format,
)
from subnet_export.deployment.graphs.half_precision import in_half_precision, largest_value
from subnet_export.deployment.graphs.litert import litert_file
from subnet_export.deployment.graphs.onnx_graph import onnx_graph
from subnet_export.deployment.quantization import quantise
from subnet_export.deployment.runtimes import openvino_core
from supernet.io import files
from supernet.litepose import LitePose
from supernet.pose.geometry import resized_size
from supernet.pose.inference import InferenceSettings

if TYPE_CHECKING:
    import onnx

_LONGEST = 4
"""Images may be this many times as long as wide by default where memory limits them; hardly one of COCO's is longer."""


@dataclass(frozen=True)
class WriterInputs:
    """A network and what its files are made from; each property is computed once, when a writer first needs it.

    Args:
        network: Calibrated, in evaluation mode; not changed.
        takes: Input of the graphs.
        calibration: Returns the images (B, 3, H, W) uint8 that show quantisation the range of every activation.
        decoding: How the outputs become people; None for networks that are only measured.
        page_runtime: Where a page gets its runtime from; looked for if None.
        max_side: Longest side of the images that an ExecuTorch file takes, in px (``largest_side``).
    """

    network: LitePose
    takes: Input
    calibration: Callable[[], Sequence[Tensor]]
    decoding: Decoding | None = None
    page_runtime: PageRuntime | None = None
    max_side: int | None = None

    @cached_property
    def deployed(self) -> DeploymentNetwork:
        """The network without batch norm."""
        return DeploymentNetwork(self.network, self.takes)

    @cached_property
    def graph(self) -> "onnx.ModelProto":
        """The deployed network in ONNX, with its decoding where it is known."""
        graph = onnx_graph(self.deployed)
        if self.decoding is not None:
            complete(graph, self.decoding, self.network.arch.resolution, self.takes)
        return graph

    @cached_property
    def deployed_float(self) -> DeploymentNetwork:
        """The network without batch norm, for images that were normalised outside."""
        return self.deployed if self.takes == "float32" else DeploymentNetwork(self.network, "float32")

    @cached_property
    def graph_float(self) -> "onnx.ModelProto":
        """The network in ONNX, for images that were normalised outside."""
        return self.graph if self.takes == "float32" else onnx_graph(self.deployed_float)

    @cached_property
    def litert(self) -> bytes:
        """The deployed network as a LiteRT file."""
        return litert_file(self.deployed)

    @cached_property
    def largest_side(self) -> int:
        """``max_side``, or else the long side of an input whose image is ``_LONGEST`` times as long as wide."""
        if self.max_side is not None:
            return self.max_side
        settings = InferenceSettings() if self.decoding is None else self.decoding.settings
        resolution, scales = self.network.arch.resolution, settings.scales
        long_side, _ = resized_size(_LONGEST, 1, resolution, settings.size_divisor, min(scales))
        return round(long_side * max(scales))

    @cached_property
    def largest_value(self) -> float:
        """The largest magnitude in the network on the calibration images."""
        return largest_value(self.graph, self.calibration_images, self.takes)

    @cached_property
    def calibration_images(self) -> Sequence[Tensor]:
        """The images that ``calibration`` returns."""
        return self.calibration()


def write_safetensors(inputs: WriterInputs, folder: Path) -> None:
    """Write the state dict under the published names."""
    import safetensors.torch

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in inputs.network.state_dict().items()}
    files.write_bytes(folder / SAFETENSORS.files[0], safetensors.torch.save(state))


def write_onnx(inputs: WriterInputs, folder: Path) -> None:
    """Write the ONNX graph."""
    files.write_bytes(folder / ONNX.files[0], inputs.graph.SerializeToString())


def write_onnx_fp16(inputs: WriterInputs, folder: Path) -> None:
    """Write the ONNX graph with 16-bit floats inside."""
    graph = in_half_precision(inputs.graph, inputs.largest_value)
    files.write_bytes(folder / ONNX_FP16.files[0], graph.SerializeToString())


def write_openvino(inputs: WriterInputs, folder: Path) -> None:
    """Write the OpenVINO model in float32."""
    save_openvino(openvino_model(inputs.graph), folder, OPENVINO)


def write_openvino_int8(inputs: WriterInputs, folder: Path, in_float: tuple[str, ...] = ()) -> None:
    """Write the OpenVINO model in 8-bit integers, but for layers whose names match the patterns ``in_float``."""
    model = quantise(openvino_model(inputs.graph), inputs.calibration_images, inputs.takes, in_float)
    save_openvino(model, folder, OPENVINO_INT8)


def write_torch_export(inputs: WriterInputs, folder: Path) -> None:
    """Write a ``torch.export`` archive with symbolic sizes."""
    batch, height, width = (torch.export.Dim(name, min=1) for name in ("batch", "height16", "width16"))
    if inputs.takes == "uint8":
        shape, sizes = (2, 96, 160, 3), {0: batch, 1: 16 * height, 2: 16 * width}
    else:
        shape, sizes = (2, 3, 96, 160), {0: batch, 2: 16 * height, 3: 16 * width}
    example = torch.zeros(shape, dtype=getattr(torch, inputs.takes))
    program = torch.export.export(inputs.deployed, (example,), dynamic_shapes={"images": sizes})
    with files.atomic(folder / TORCH_EXPORT.files[0]) as temporary:
        torch.export.save(program, temporary)


def write_web(inputs: WriterInputs, folder: Path) -> None:
    """Write a folder with a page, the ONNX graph and where its runtime is."""
    (text,) = (entry.value for entry in inputs.graph.metadata_props if entry.key == METADATA_KEY)
    settings = json.loads(text)
    keypoints, side = settings["keypoints"], settings["input"]["short_side"]
    about = f"LitePose, {side} px, {len(keypoints['names'])} keypoints ({keypoints['name']})"
    network = inputs.graph.SerializeToString()
    write_page(folder / FOLDER, network, {"about": about, **settings}, inputs.page_runtime or page_runtime())


WRITERS: dict[str, Callable[[WriterInputs, Path], None]] = {
    SAFETENSORS.name: write_safetensors,
    ONNX.name: write_onnx,
    ONNX_FP16.name: write_onnx_fp16,
    OPENVINO.name: write_openvino,
    NCNN.name: lambda inputs, folder: write_ncnn(inputs.graph_float, folder),
    LITERT.name: lambda inputs, folder: files.write_bytes(folder / LITERT.files[0], inputs.litert),
    MNN.name: lambda inputs, folder: write_mnn(inputs.graph_float, folder),
    EXECUTORCH.name: lambda inputs, folder: write_executorch(inputs.deployed_float, inputs.largest_side, folder),
    COREML.name: lambda inputs, folder: write_coreml(inputs.deployed_float, folder),
    TORCH_EXPORT.name: write_torch_export,
    WEB.name: write_web,
}
"""Writers of formats with the network's own maps, by the format's name."""
QUANTISED_WRITERS: dict[str, Callable[[WriterInputs, Path, tuple[str, ...]], None]] = {
    OPENVINO_INT8.name: write_openvino_int8,
    LITERT_INT8.name: lambda inputs, folder, in_float: write_litert_int8(
        inputs.litert, inputs.takes, inputs.calibration_images, in_float, folder
    ),
}
"""Writers of formats with rounded weights and activations; they also take the name patterns of layers left in float."""


def write_format(chosen: Format, inputs: WriterInputs, folder: Path, in_float: tuple[str, ...] = ()) -> None:
    """Write the files of a format into ``folder``.

    Args:
        chosen: Any format but LitePose's own.
        inputs: The network.
        folder: Must exist.
        in_float: For a quantised format, name patterns of layers that stay in float.
    """
    if chosen.name in QUANTISED_WRITERS:
        QUANTISED_WRITERS[chosen.name](inputs, folder, in_float)
    else:
        WRITERS[chosen.name](inputs, folder)


def openvino_model(graph: "onnx.ModelProto") -> Any:
    """Return an ONNX graph as ``openvino.Model``."""
    # Through a file, as OpenVINO reads no ONNX from memory.
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / ONNX.files[0]
        path.write_bytes(graph.SerializeToString())
        return openvino_core().read_model(path)


def save_openvino(model: Any, folder: Path, chosen: Format) -> None:
    """Write an ``openvino.Model`` with float32 weights to the two files of ``chosen``."""
    import openvino

    with tempfile.TemporaryDirectory(dir=folder) as unfinished:
        openvino.save_model(model, Path(unfinished) / chosen.files[0], compress_to_fp16=False)
        for name in chosen.files:
            with files.atomic(folder / name) as temporary:
                os.replace(Path(unfinished) / name, temporary)
