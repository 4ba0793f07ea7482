"""What a benchmark measures: exported models, or archs with random weights, opened in each runtime."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from subnet_export.benchmarking.throughput import CAMERA_SIZE
from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.equivalence import comparison_images
from subnet_export.deployment.formats import FORMATS, LITEPOSE, OPENVINO_INT8, RUNTIMES, TORCH_EXPORT, missing
from subnet_export.deployment.library_runtimes import open_runtime
from subnet_export.deployment.runtimes import Runtime, TorchRuntime, bf16_is_native
from subnet_export.deployment.writers import WriterInputs, write_format
from subnet_export.exported_model import ExportedModel, FormatRecord
from subnet_export.model import load_model
from supernet.arch import Arch
from supernet.checkpoints.exported_network import DESCRIPTION_FILE
from supernet.checkpoints.hub import is_hub
from supernet.checkpoints.pretrained import located
from supernet.errors import UserError
from supernet.evaluation.calibration import calibrate
from supernet.io import files
from supernet.litepose import LitePose, in_channels_last
from supernet.pose.geometry import resized_size
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import KeypointSet, keypoint_set


@dataclass(frozen=True)
class BenchmarkTarget:
    """A network to measure.

    Attributes:
        name: Folder of the model or file of the arch.
        network: Calibrated, in evaluation mode.
        keypoints: The K keypoints that it predicts.
        settings: How its maps become people.
        model: The exported model and its folder; None for random weights.
    """

    name: str
    network: LitePose
    keypoints: KeypointSet
    settings: InferenceSettings
    model: tuple[ExportedModel, Path] | None = None

    @property
    def has_random_weights(self) -> bool:
        """Whether its maps mean nothing."""
        return self.model is None

    @property
    def num_passes(self) -> int:
        """Passes of the network that its settings take for an image: one at each scale, twice with a flip test."""
        return len(self.settings.scales) * (2 if self.settings.flip_test else 1)


def load_targets(options: argparse.Namespace, device: torch.device) -> Iterator[BenchmarkTarget]:
    """Yield the archs of the command line, or else its model.

    Raises:
        UserError: A file cannot be read.
    """
    if not options.arch:
        name = options.model or Path(options.runs) / "export" / "latest"
        if options.record and is_hub(name):
            raise UserError(f"{name} is not on this machine, so nothing can be recorded in it; leave out --record")
        folder = located(name, [file for chosen in FORMATS.values() for file in chosen.files])
        model = load_model(folder, device)
        folder = model.folder or folder  # of a file, the model's own: web/network.onnx lies deeper than model.onnx
        if options.record:  # before the measurements, not after them
            files.check_writable(folder / DESCRIPTION_FILE)
        yield BenchmarkTarget(str(folder), model.network, model.keypoints, model.settings, (model, folder))
    for path in options.arch or ():
        keypoints = keypoint_set(options.keypoints)
        network = random_network(Arch.load(path), keypoints.num).to(device)
        yield BenchmarkTarget(path, network, keypoints, InferenceSettings())


def random_network(arch: Arch, num_keypoints: int) -> LitePose:
    """Return a network with fixed random weights, calibrated on built-in people."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LitePose(arch, num_keypoints)
    calibrate(network, comparison_images(arch.resolution))
    in_channels_last(network)
    return network


def available_runtimes() -> tuple[str, ...]:
    """Return the names of ``RUNTIMES`` whose packages are installed and whose precision this processor has.

    Formats with an environment of their own are left out, because making it takes a connection.
    """
    return tuple(
        name
        for name, (chosen, precision) in RUNTIMES.items()
        if not missing(chosen.packages) and not chosen.environment and (precision != "bf16" or bf16_is_native())
    )


def open_runtimes(names: Sequence[str], target: BenchmarkTarget, folder: Path) -> dict[str, Runtime]:
    """Open runtimes on the model's own files, or on files that are written to ``folder``.

    Args:
        names: Of ``RUNTIMES``.
        target: The network.
        folder: An empty folder, which must last as long as the runtimes.
    """
    network = target.network
    inputs = WriterInputs(network, "uint8", lambda: comparison_images(network.arch.resolution))
    return {name: _open(name, target, inputs, folder) for name in names}


def _open(name: str, target: BenchmarkTarget, inputs: WriterInputs, folder: Path) -> Runtime:
    chosen, precision = RUNTIMES[name]
    if chosen == LITEPOSE:
        return TorchRuntime(target.network)
    if chosen == TORCH_EXPORT:
        deployed = DeploymentNetwork(target.network)
        in_channels_last(deployed)
        return TorchRuntime(deployed.to(next(target.network.parameters()).device), "uint8")
    own = target.model[0].formats.get(chosen.name) if target.model is not None else None
    if target.model is not None and own is not None and own.gives == "maps" and _takes_frames(own, target):
        folder = target.model[1]
    elif not (folder / chosen.files[0]).exists():
        write_format(chosen, inputs, folder)
    # Layers of a quantised file that stay in float run in the fastest precision of this processor.
    in_bf16 = precision == "bf16" or (chosen == OPENVINO_INT8 and bf16_is_native())
    return open_runtime(folder, chosen, "bf16" if in_bf16 else "f32")


def _takes_frames(own: FormatRecord, target: BenchmarkTarget) -> bool:
    """Whether a file of the model takes the frames of the pipeline; its limit does not affect the time of a run."""
    resolution, divisor = target.network.arch.resolution, target.settings.size_divisor
    return own.max_side is None or own.max_side >= max(resized_size(*CAMERA_SIZE, resolution, divisor))
