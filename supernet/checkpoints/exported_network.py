"""The network of an exported model, read from its folder: ``weights.pt`` and what ``model.json`` says of its use.

``weights.pt`` is LitePose's state dict, plain tensors under the published names. What else ``model.json`` tells, such
as where the weights come from and how good they are, is ``subnet_export``'s.
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
    """A calibrated network with what is needed to run it.

    Attributes:
        network: On the CPU, in evaluation mode.
        keypoints: The K keypoints it predicts.
        settings: How its maps become people.
        dataset: Plain description of its data set (:func:`supernet.pose.datasets.build`).
        description: All that ``model.json`` says.
    """

    network: LitePose
    keypoints: KeypointSet
    settings: InferenceSettings
    dataset: dict[str, Any]
    description: dict[str, Any]


def describe_net(arch: Arch, keypoints: KeypointSet, settings: InferenceSettings) -> dict[str, Any]:
    """Return what ``model.json`` says of a network's use, plain values."""
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
    """Return what ``model.json`` says of the content of its weights file."""
    return {"file": WEIGHTS_FILE, "sha256": hashlib.sha256(content).hexdigest()}


def is_exported(folder: str | Path) -> bool:
    """Whether ``folder`` looks like an exported model's."""
    return (Path(folder) / DESCRIPTION_FILE).exists()


def load_net(folder: str | Path) -> ExportedNet:
    """Read the network of an exported model and check that its files belong together and are as they were written.

    Raises:
        UserError: A file is missing, damaged, of another format, or does not fit the other.
    """
    folder = Path(folder)
    path, weights = folder / DESCRIPTION_FILE, folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(f"there is no exported model in {folder}; run python -m subnet_export or name another folder")
    value = files.read_json(path, "model description")
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        version = value.get("format") if isinstance(value, Mapping) else None
        raise UserError(f"{path} has format version {version!r}, this release reads {FORMAT}; export the subnet anew")
    if checksum.without_checksum(value) is None:
        raise UserError(
            f"{path} is not as it was written: its checksum differs; restore it, export the subnet anew, or take its "
            f"{checksum.KEY} out if you changed it on purpose"
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
            f"{weights} is damaged or not what {path} describes (SHA-256 differs); restore it or export anew"
        )
    for key, own in describe_net(arch, keypoints, settings).items():
        if key != "inference" and value.get(key) != own:  # settings that an older release did not know have defaults
            raise UserError(f"{path}: {key} is {value.get(key)!r}, this release has {own!r}; export the subnet anew")
    state = _unpacked(content, weights)
    with torch.device("meta"):  # before there is memory for what may be too large
        check_state(LitePose(arch, keypoints.num), state, weights)
    network = LitePose(arch, keypoints.num)
    load_state(network, state, weights)
    in_channels_last(network)
    return ExportedNet(network.eval(), keypoints, settings, dict(value["dataset"]), dict(value))


def check_objects(value: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    """Raise UserError if one of the ``wanted`` entries is missing or not an object."""
    for key in wanted:
        if not isinstance(value.get(key), Mapping):
            raise UserError(f"{key} is missing or not an object; restore the file or export the subnet anew")


def read_weights(path: Path) -> bytes:
    """Return the content of a file of weights.

    Raises:
        UserError: It cannot be read.
    """
    return files.read_bytes(path, "weights", files.HUGE, "restore the file or export anew")


def _unpacked(content: bytes, path: Path) -> Any:
    """Read what should be a state dict; nothing in it is executed."""
    try:
        return safe_torch.deserialize(content)
    except safe_torch.DAMAGED as error:
        raise UserError(f"{path} is not a file of weights; restore it or export the subnet anew") from error
