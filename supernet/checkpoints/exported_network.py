"""Reads the network of an exported model from its folder: ``weights.pt``, and how to use it from ``model.json``.

``weights.pt`` is LitePose's state dict, plain tensors under the published names. The other entries of ``model.json``,
such as the origin of the weights and their AP, belong to ``subnet_export``.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from supernet.arch import Arch
from supernet.checkpoints import safe_torch
from supernet.checkpoints.container import check_state, load_state
from supernet.checkpoints.lineage import Lineage, from_plain, training_data_of
from supernet.checkpoints.pretrained import located, without_prefix
from supernet.errors import UserError
from supernet.io import checksum, files
from supernet.io.schema import from_mapping
from supernet.litepose import LitePose, in_channels_last
from supernet.pose.custom_keypoints import from_entry, to_entry
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD, check_scales
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import KeypointSet

FORMAT = 1
DESCRIPTION_FILE = "model.json"
WEIGHTS_FILE = "weights.pt"


@dataclass(frozen=True)
class ExportedNet:
    """A calibrated network and everything needed to run it.

    Attributes:
        network: On the CPU, in evaluation mode.
        keypoints: The K keypoints it predicts.
        settings: How people are decoded from its outputs.
        dataset: Plain description of its data set (:func:`supernet.pose.datasets.build`).
        description: The content of ``model.json``.
    """

    network: LitePose
    keypoints: KeypointSet
    settings: InferenceSettings
    dataset: dict[str, Any]
    description: dict[str, Any]

    @property
    def trained_on(self) -> Lineage:
        """The data sets of its weights; of a file of an earlier release, the one that it describes."""
        origin = self.description.get("origin")
        known = from_plain(origin.get("trained_on")) if isinstance(origin, Mapping) else ()
        return known or (training_data_of(self.dataset),)


def describe_net(arch: Arch, keypoints: KeypointSet, settings: InferenceSettings) -> dict[str, Any]:
    """Return the entries of ``model.json`` that describe how to use a network, as plain values."""
    return {
        "format": FORMAT,
        "network": "LitePose",
        "arch": arch.to_dict(),
        "keypoints": to_entry(keypoints),
        "input": {
            "short_side": arch.resolution,
            "channels": "RGB, 0..1",
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
        },
        "outputs": {
            "low": {"stride": 4, "channels": "K heatmaps, then K tags"},
            "high": {"stride": 2, "channels": "K heatmaps"},
        },
        "inference": {**asdict(settings), "scales": list(settings.scales)},
    }


def describe_weights(content: bytes) -> dict[str, str]:
    """Return the entry of ``model.json`` that describes its weights file, whose content is given."""
    return {"file": WEIGHTS_FILE, "sha256": hashlib.sha256(content).hexdigest()}


def is_exported(folder: str | Path) -> bool:
    """Whether ``folder`` seems to hold an exported model."""
    return (located(folder) / DESCRIPTION_FILE).exists()


def model_of_file(path: str | Path) -> Path | None:
    """Return the folder of the exported model that a file, such as ``model.onnx``, belongs to, if it does."""
    path = located(path)
    # Files of the format web lie in a folder of their own.
    return next((folder for folder in path.parents[:2] if path.is_file() and is_exported(folder)), None)


def load_net(folder: str | Path) -> ExportedNet:
    """Read the network of an exported model; check that its files are unchanged and belong together.

    Raises:
        UserError: A file is missing, damaged, of another format, or does not fit the other.
    """
    folder = located(folder)
    path, weights = folder / DESCRIPTION_FILE, folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(
            f"there is no exported model in {folder}{without_prefix(folder)}; run python -m subnet_export or give "
            "another folder"
        )
    value = files.read_json(path, "model description")
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        version = value.get("format") if isinstance(value, Mapping) else None
        raise UserError(f"{path} has format version {version!r}, this release reads {FORMAT}; export the subnet again")
    if checksum.without_checksum(value) is None:
        raise UserError(
            f"{path} was changed after it was written: its checksum differs; restore it, export the subnet again, or "
            f"remove its entry {checksum.KEY} if you changed the file on purpose"
        )
    try:
        check_objects(value, ("arch", "keypoints", "input", "outputs", "inference", "dataset", "weights"))
        arch, keypoints = Arch.from_dict(value["arch"]), from_entry(value["keypoints"])
        settings = from_mapping(InferenceSettings, value["inference"], "inference")
        check_scales(settings.scales, settings.size_divisor, arch.resolution)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    content = read_weights(weights)
    if value["weights"] != describe_weights(content):
        raise UserError(
            f"{weights} is damaged or not the file that {path} describes (SHA-256 differs); restore it or export again"
        )
    for key, expected in describe_net(arch, keypoints, settings).items():
        if key != "inference" and value.get(key) != expected:  # older releases lack some settings, which have defaults
            raise UserError(f"{path}: {key} must be {expected!r}, got {value.get(key)!r}; export the subnet again")
    state = _deserialize(content, weights)
    with torch.device("meta"):  # checks the sizes before memory is allocated
        check_state(LitePose(arch, keypoints.num), state, weights)
    network = LitePose(arch, keypoints.num)
    load_state(network, state, weights)
    in_channels_last(network)
    return ExportedNet(network.eval(), keypoints, settings, dict(value["dataset"]), dict(value))


def check_objects(value: Mapping[str, Any], required: tuple[str, ...]) -> None:
    """Raise UserError if one of the ``required`` entries is missing or not an object."""
    for key in required:
        if not isinstance(value.get(key), Mapping):
            raise UserError(f"{key} is missing or not an object; restore the file or export the subnet again")


def read_weights(path: Path) -> bytes:
    """Return the content of a file of weights.

    Raises:
        UserError: It cannot be read.
    """
    return files.read_bytes(path, "weights", files.HUGE, "restore the file or export again")


def _deserialize(content: bytes, path: Path) -> Any:
    """Return the value in a file of weights; nothing in it is executed."""
    try:
        return safe_torch.deserialize(content)
    except safe_torch.DAMAGED as error:
        raise UserError(f"{path} is not a file of weights; restore it or export the subnet again") from error
