"""Exports a model in further formats: each file is written, run, compared with the network, and kept if it agrees."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from subnet_export.ap_measurement import measure
from subnet_export.decoding.description import Decoding
from subnet_export.decoding.detections import ListingEstimator
from subnet_export.deployment.detectors import DetectorRuntime, check_detections
from subnet_export.deployment.equivalence import check_maps, comparison_images, differences
from subnet_export.deployment.formats import (
    EXECUTORCH,
    LITEPOSE,
    ONNX_FP16,
    SAFETENSORS,
    TORCH_EXPORT,
    Format,
)
from subnet_export.deployment.library_runtimes import open_runtime
from subnet_export.deployment.quantization import SENSITIVE
from subnet_export.deployment.runtimes import Runtime, TorchRuntime
from subnet_export.deployment.writers import QUANTISED_WRITERS, WriterInputs, write_format
from subnet_export.exported_model import ExportedModel, FormatRecord
from subnet_export.exporting.format_options import FormatOptions, check_options
from supernet.errors import UserError
from supernet.evaluation.image_blocks import input_sizes
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import Subset
from supernet.pose.evaluation import num_until_people
from supernet.pose.inference import PoseEstimator

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class FormatWriter:
    """Writes and checks a model's further formats; pass :meth:`write` to :func:`subnet_export.model.save_model`.

    Args:
        options: What to write.
        test_set: The images to measure AP on; None where there are none, and no format needs images.
        calibration: Returns the images (B, 3, H, W) uint8 that show quantisation the range of every activation.
        batch_size: Images per pass.
        other_images: What ``test_set`` is, in words, if the model was measured on other images.
    """

    options: FormatOptions
    test_set: PoseDataset | None
    calibration: Callable[[], Sequence[Tensor]]
    batch_size: int = 32
    other_images: str | None = None

    def write(self, folder: Path, model: ExportedModel) -> dict[str, FormatRecord]:
        """Write the files into ``folder`` and return a record of each format.

        Raises:
            UserError: A file's maps or AP are not the network's, quantisation costs too much AP, or an option does not
                fit (:func:`check_options`).
        """
        check_options(self.options, model.settings, model.arch.resolution)
        candidates = _Candidates(self, folder, model)
        return {chosen.name: candidates.export(chosen) for chosen in self.options.formats if chosen != LITEPOSE}


class _Candidates:
    """The files of one model, which become its formats if they agree with its network."""

    def __init__(self, writer: FormatWriter, folder: Path, model: ExportedModel) -> None:
        self._writer, self._options, self._batch_size = writer, writer.options, writer.batch_size
        self._folder, self._model = folder, model
        decoding = Decoding(model.keypoints, model.settings, writer.options.decode)
        takes, page_runtime = writer.options.takes, writer.options.page_runtime
        max_side = writer.options.max_side
        self._inputs = WriterInputs(model.network, takes, writer.calibration, decoding, page_runtime, max_side)
        # AP of the network in PyTorch, by the size of the test set and the number of images from its start.
        self._network_ap: dict[tuple[int, int], float] = {}
        if writer.test_set is not None and writer.other_images is None:
            measured = (len(writer.test_set), model.measurement.num_images)
            self._network_ap[measured] = model.measurement.metrics["AP"]
        # The same from lists of detections in its maps.
        self._listed_ap: dict[int, float] = {}

    def export(self, chosen: Format) -> FormatRecord:
        if chosen == SAFETENSORS:
            return self._export_weights()
        if chosen.name in QUANTISED_WRITERS:
            return self._export_quantised(chosen)
        if not chosen.runs_here:
            return self._export_unrun(chosen)
        return self._export_decoding(chosen) if self._options.decode else self._export_float(chosen)

    def _export_weights(self) -> FormatRecord:
        """Write the weights and read them back; equal weights are the same network, so nothing is measured."""
        import safetensors.torch

        write_format(SAFETENSORS, self._inputs, self._folder)
        read = safetensors.torch.load_file(self._folder / SAFETENSORS.files[0])
        state = self._model.network.state_dict()
        if read.keys() != state.keys() or not all(torch.equal(state[name].cpu(), read[name]) for name in state):
            raise UserError(
                f"{SAFETENSORS.files[0]} does not read back as it was written; nothing was kept, export again"
            )
        measurement = self._model.measurement
        ap = measurement.metrics.get("AP")
        return FormatRecord(file_digests(self._folder, SAFETENSORS), "state", 0.0, ap, ap, measurement.num_images)

    def _export_float(self, chosen: Format) -> FormatRecord:
        """Write a file with the network's own maps."""
        write_format(chosen, self._inputs, self._folder)
        runtime = self._open(chosen)
        limit = self._inputs.largest_side if chosen == EXECUTORCH else None
        images = comparison_images(self._model.arch.resolution)
        images = [batch for batch in images if limit is None or max(batch.shape[2:]) <= limit]
        error = check_maps(chosen.name, self._model.network, runtime, images, chosen.maps_tolerance)
        record = self._record(chosen, self._estimator(runtime), error, self._num_to_compare, max_side=limit)
        ap, network_ap = record.AP, record.AP_network
        if ap is not None and network_ap is not None and abs(ap - network_ap) > chosen.ap_tolerance:
            raise UserError(
                f"AP of format {chosen.name} is {ap:.4f}, that of the network is {network_ap:.4f}; they may differ by "
                f"{chosen.ap_tolerance:g}; nothing was kept, leave out the format"
            )
        if chosen == ONNX_FP16:
            return replace(record, largest_value=self._inputs.largest_value)
        return record

    def _export_unrun(self, chosen: Format) -> FormatRecord:
        """Write a file that cannot run here; its writer compares what the file says about itself with the network."""
        write_format(chosen, self._inputs, self._folder)
        LOGGER.warning("format %s was not run here, only its description was checked; try it on a device", chosen.name)
        return FormatRecord(file_digests(self._folder, chosen), self._takes(chosen), None, None, None, 0)

    def _takes(self, chosen: Format) -> str:
        """Return the input of the graph in ``chosen``."""
        return chosen.takes or self._options.takes

    def _export_decoding(self, chosen: Format) -> FormatRecord:
        """Write a file whose graph decodes, and compare it with detections and people from the network's own maps."""
        write_format(chosen, self._inputs, self._folder)
        model, batch_size = self._model, self._batch_size
        detector = DetectorRuntime(self._folder, chosen, model.keypoints.num, model.settings)
        images = comparison_images(model.arch.resolution)
        error = check_detections(chosen.name, model.network, detector, images, model.settings)
        estimator = replace(model, detector=detector).estimator(batch_size)
        record = self._record(chosen, estimator, error, self._num_to_compare)
        if record.AP is not None:
            listed_ap = self._ap_of_listed(record.num_images)
            if abs(record.AP - listed_ap) > chosen.ap_tolerance:
                raise UserError(
                    f"AP of format {chosen.name} is {record.AP:.4f}, that of the detections in the network's maps is "
                    f"{listed_ap:.4f}; they may differ by {chosen.ap_tolerance:g}; nothing was kept, leave out --decode"
                )
        return replace(record, gives="detections")

    def _ap_of_listed(self, num_images: int) -> float:
        """Return the AP of the network's detections, from lists of them, on the first images."""
        if num_images not in self._listed_ap:
            model = self._model
            network = (model.network, model.arch.resolution, model.keypoints, model.settings)
            listing = ListingEstimator(*network, self._batch_size, model.device)
            self._listed_ap[num_images] = self._measure_ap(
                num_images, "network, from detections", listing, self._test_set
            )
        return self._listed_ap[num_images]

    def _export_quantised(self, chosen: Format) -> FormatRecord:
        """Write a quantised file; if it costs too much AP, write it again with the sensitive layers in float."""
        limit = self._options.max_int8_loss
        losses = []
        for in_float in ((), SENSITIVE):
            write_format(chosen, self._inputs, self._folder, in_float)
            runtime = self._open(chosen)
            images = comparison_images(self._model.arch.resolution)
            error = max(difference.rms for difference in differences(self._model.network, runtime, images))
            is_own = self._writer.other_images is None
            num_images = self._model.measurement.num_images if is_own else len(self._test_set)
            record = self._record(chosen, self._estimator(runtime), error, num_images, in_float)
            assert record.AP is not None
            assert record.AP_network is not None
            losses.append(record.AP_network - record.AP)
            if losses[-1] <= limit:
                if record.ap_difference() is None:
                    LOGGER.warning(
                        "AP shows nothing about format %s: the network's own is %.4f; its maps differ by %.2g standard "
                        "deviations (root mean square)",
                        *(chosen.name, record.AP_network, error),
                    )
                return record
        raise UserError(
            f"format {chosen.name} loses {min(losses):.4f} AP, --max-int8-loss is {limit:g}; nothing was kept, allow a "
            "larger loss or leave out the format"
        )

    @property
    def _test_set(self) -> PoseDataset:
        assert self._writer.test_set is not None
        return self._writer.test_set

    @property
    def _num_to_compare(self) -> int:
        """Images on which the AP of a file in float is compared."""
        return 0 if self._writer.test_set is None else self._options.num_check_images

    def _open(self, chosen: Format) -> Runtime:
        """Open what was just written."""
        if chosen == TORCH_EXPORT:  # such a file can hold code, so this is the only place that reads one
            program = torch.export.load(self._folder / chosen.files[0])
            return TorchRuntime(program.module(), self._options.takes)
        return open_runtime(self._folder, chosen)

    def _record(
        self,
        chosen: Format,
        estimator: PoseEstimator,
        error: float,
        num_images: int,
        in_float: tuple[str, ...] = (),
        max_side: int | None = None,
    ) -> FormatRecord:
        """Measure AP of a file and of the network on the first images and return the format's record.

        Args:
            chosen: The format.
            estimator: Runs the file.
            error: Difference of its maps.
            num_images: How many images, unless they show nobody; 0: AP is not measured.
            in_float: Layers of a quantised file that stay in float.
            max_side: Longest side of the images that the file takes, in px; longer ones are left out.
        """
        digests, takes = file_digests(self._folder, chosen), self._takes(chosen)
        if not num_images:
            return FormatRecord(digests, takes, error, None, None, 0, max_side=max_side)
        images = self._images_up_to(max_side)
        num_images = num_until_people(images, min(num_images, len(images)))
        ap = self._measure_ap(num_images, chosen.name, estimator, images)
        key = (len(images), num_images)
        if key not in self._network_ap:
            network = replace(self._model, runtime=None, detector=None).estimator(self._batch_size)
            self._network_ap[key] = self._measure_ap(num_images, "network", network, images)
        measured = FormatRecord(digests, takes, error, ap, self._network_ap[key], num_images, in_float)
        return replace(measured, max_side=max_side, images=self._writer.other_images)

    def _images_up_to(self, max_side: int | None) -> PoseDataset:
        """Return the test images whose input is at most ``max_side`` px long; those of unknown size count as such."""
        if max_side is None:
            return self._test_set
        estimator, total = self._model.estimator(self._batch_size), len(self._test_set)
        scale = max(self._model.settings.scales)
        sides = [round(max(size) * scale) for size in input_sizes(estimator, self._test_set, total)]
        indices = [index for index, side in enumerate(sides) if side <= max_side]
        if not indices:
            raise UserError(
                f"every test image is longer than --max-side, {max_side} px, so AP of the file cannot be measured; "
                f"nothing was kept, raise it to {min(sides)} px at least"
            )
        return self._test_set if len(indices) == total else Subset(self._test_set, indices)

    def _estimator(self, runtime: Runtime) -> PoseEstimator:
        return replace(self._model, runtime=runtime, detector=None).estimator(self._batch_size)

    def _measure_ap(self, num_images: int, note: str, estimator: PoseEstimator, images: PoseDataset) -> float:
        split = self._model.measurement.split
        return measure(estimator, images, split, num_images, f"{note}:").metrics["AP"]


def file_digests(folder: Path, chosen: Format) -> dict[str, str]:
    """Return the SHA-256 of each file of a format."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in chosen.files}
