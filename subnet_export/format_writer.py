"""Writes the network in other formats, each kept only if its file, run, agrees with the network."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from subnet_export.ap_measurement import measure
from subnet_export.deployment.deployed_network import DeploymentNetwork, Input
from subnet_export.deployment.equivalence import check_maps, differences, made_up_images
from subnet_export.deployment.formats import (
    FORMATS,
    LITEPOSE,
    MAX_INT8_LOSS,
    ONNX,
    OPENVINO_INT8,
    SAFETENSORS,
    TORCH_EXPORT,
    Format,
)
from subnet_export.deployment.onnx_graph import onnx_graph
from subnet_export.deployment.quantization import SENSITIVE, quantised
from subnet_export.deployment.runtimes import Runtime, TorchRuntime, open_runtime, openvino_core
from subnet_export.exported_model import ExportedModel, FormatRecord
from supernet.errors import UserError
from supernet.io import files
from supernet.pose.data.pose_dataset import PoseDataset

if TYPE_CHECKING:
    import onnx

AP_TOLERANCE = 1e-3
"""How far the AP of a file in float may be from the network's."""


def formats_of(model: ExportedModel) -> tuple[tuple[Format, ...], Input]:
    """Return the formats a model was exported in, and what its graphs take ("uint8" if it has none)."""
    takes = {record.takes for record in model.formats.values()} - {"state"}
    return tuple(FORMATS[name] for name in model.formats), "float32" if takes == {"float32"} else "uint8"


@dataclass
class FormatWriter:
    """Writes a model's other formats; give :meth:`write` to :func:`subnet_export.model.save_model`.

    Args:
        formats: What to write.
        takes: What goes into the graphs.
        test_set: The images behind the model's measurement.
        num_images: How many of them, from the start, AP is compared on; quantised files are measured on as many as the
            model was.
        calibration: Gives the images (B, 3, H, W) uint8 that tell the ranges of activations for quantisation.
        max_int8_loss: AP that quantisation may cost.
        batch_size: Images per pass.
    """

    formats: Sequence[Format]
    takes: Input
    test_set: PoseDataset
    num_images: int
    calibration: Callable[[], list[Tensor]]
    max_int8_loss: float = MAX_INT8_LOSS
    batch_size: int = 32
    _graph: "onnx.ModelProto | None" = field(default=None, init=False, repr=False)
    _own: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    def write(self, folder: Path, model: ExportedModel) -> dict[str, FormatRecord]:
        """Write the files into ``folder`` and return what they are.

        Raises:
            UserError: A file's maps or AP are not the network's, or quantisation costs too much.
        """
        self._graph = None
        self._own = {model.measurement.num_images: model.measurement.metrics["AP"]}
        return {each.name: self._write(each, folder, model) for each in self.formats if each != LITEPOSE}

    def _write(self, chosen: Format, folder: Path, model: ExportedModel) -> FormatRecord:
        if chosen == SAFETENSORS:
            return self._write_safetensors(folder, model)
        if chosen == OPENVINO_INT8:
            return self._write_quantised(folder, model)
        path = folder / chosen.files[0]
        if chosen == TORCH_EXPORT:
            runtime: Runtime = self._write_torch_export(path, model)
        elif chosen == ONNX:
            files.write_bytes(path, self._onnx(model).SerializeToString())
            runtime = open_runtime(folder, chosen)
        else:
            write_openvino(self._openvino(model), folder, chosen)
            runtime = open_runtime(folder, chosen)
        error = check_maps(chosen.name, model.network, runtime, made_up_images(model.arch.resolution))
        record = self._record(chosen, folder, model, runtime, error, self.num_images)
        if abs(record.AP - record.AP_network) > AP_TOLERANCE:
            raise UserError(
                f"AP of format {chosen.name} is {record.AP:.4f} where the network has {record.AP_network:.4f}; nothing "
                "was kept, leave the format out"
            )
        return record

    def _write_safetensors(self, folder: Path, model: ExportedModel) -> FormatRecord:
        import safetensors.torch

        path = folder / SAFETENSORS.files[0]
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
        files.write_bytes(path, safetensors.torch.save(state))
        read = safetensors.torch.load_file(path)
        if read.keys() != state.keys() or not all(torch.equal(state[name], read[name]) for name in state):
            raise UserError(
                f"{SAFETENSORS.files[0]} does not read back as it was written; nothing was kept, export again"
            )
        measured = model.measurement  # equal weights are the same network
        ap = measured.metrics["AP"]
        return FormatRecord(digests(folder, SAFETENSORS), "state", 0.0, ap, ap, measured.num_images)

    def _write_torch_export(self, path: Path, model: ExportedModel) -> Runtime:
        """Write a ``torch.export`` archive of symbolic sizes, and return what was read back from it."""
        network = DeploymentNetwork(model.network, self.takes)
        batch, height, width = (torch.export.Dim(name, min=1) for name in ("batch", "height16", "width16"))
        spatial = {0: batch, 1: 16 * height, 2: 16 * width}
        shape = (2, 96, 160, 3) if self.takes == "uint8" else (2, 3, 96, 160)
        if self.takes == "float32":
            spatial = {0: batch, 2: 16 * height, 3: 16 * width}
        example = torch.zeros(shape, dtype=getattr(torch, self.takes))
        program = torch.export.export(network, (example,), dynamic_shapes={"images": spatial})
        with files.atomic(path) as temporary:
            torch.export.save(program, temporary)
        return TorchRuntime(torch.export.load(path).module(), self.takes)

    def _write_quantised(self, folder: Path, model: ExportedModel) -> FormatRecord:
        """Write the network in 8-bit integers; if that costs too much, once more with the sensitive layers in float."""
        losses = []
        batches = self.calibration()
        for in_float in ((), SENSITIVE):
            write_openvino(quantised(self._openvino(model), batches, self.takes, in_float), folder, OPENVINO_INT8)
            runtime = open_runtime(folder, OPENVINO_INT8)
            images = made_up_images(model.arch.resolution)
            error = max(each.rms for each in differences(model.network, runtime, images))
            num_images = model.measurement.num_images
            record = self._record(OPENVINO_INT8, folder, model, runtime, error, num_images, in_float)
            losses.append(record.AP_network - record.AP)
            if losses[-1] <= self.max_int8_loss:
                return record
        raise UserError(
            f"8-bit integers cost {min(losses):.4f} AP, --max-int8-loss is {self.max_int8_loss:g}; nothing was kept, "
            "allow more or leave out format openvino_int8"
        )

    def _record(
        self,
        chosen: Format,
        folder: Path,
        model: ExportedModel,
        runtime: Runtime,
        error: float,
        num_images: int,
        in_float: tuple[str, ...] = (),
    ) -> FormatRecord:
        num_images = min(num_images, len(self.test_set))
        ap, own = self._ap(model, num_images, chosen.name, runtime), self._own.get(num_images)
        if own is None:
            own = self._own[num_images] = self._ap(model, num_images, "network", None)
        return FormatRecord(digests(folder, chosen), self.takes, error, ap, own, num_images, in_float)

    def _ap(self, model: ExportedModel, num_images: int, note: str, runtime: Runtime | None) -> float:
        split = model.measurement.split
        measured = measure(
            model.network, self.test_set, split, model.settings, self.batch_size, num_images, f"{note}:", runtime
        )
        return measured.metrics["AP"]

    def _onnx(self, model: ExportedModel) -> "onnx.ModelProto":
        if self._graph is None:
            self._graph = onnx_graph(DeploymentNetwork(model.network, self.takes))
        return self._graph

    def _openvino(self, model: ExportedModel) -> Any:
        return openvino_model(self._onnx(model))


def openvino_model(graph: "onnx.ModelProto") -> Any:
    """Return an ONNX graph as ``openvino.Model``."""
    # Through a file: OpenVINO's reader takes no bytes of ONNX.
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / ONNX.files[0]
        path.write_bytes(graph.SerializeToString())
        return openvino_core().read_model(path)


def write_openvino(model: Any, folder: Path, chosen: Format) -> None:
    """Write an ``openvino.Model`` in float32 to the two files of ``chosen``."""
    import openvino

    with tempfile.TemporaryDirectory(dir=folder) as place:
        openvino.save_model(model, Path(place) / chosen.files[0], compress_to_fp16=False)
        for name in chosen.files:
            with files.atomic(folder / name) as temporary:
                os.replace(Path(place) / name, temporary)


def digests(folder: Path, chosen: Format) -> dict[str, str]:
    """Return the SHA-256 of each file of a format."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in chosen.files}
