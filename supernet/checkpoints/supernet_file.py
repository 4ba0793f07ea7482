"""Reads and writes the file of a trained supernet: its weights and everything needed to use them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from supernet.checkpoints import safe_torch, safetensors_file
from supernet.checkpoints.container import Parts, check_parts, check_state, load, load_state, save
from supernet.checkpoints.exported_network import is_exported
from supernet.checkpoints.lineage import Lineage, extended, to_plain, training_data_of
from supernet.checkpoints.lineage import from_plain as from_plain_lineage
from supernet.checkpoints.pretrained import located, without_prefix
from supernet.errors import UserError
from supernet.io import files
from supernet.io.schema import from_mapping
from supernet.pose.custom_keypoints import from_plain
from supernet.pose.keypoints import KeypointSet
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

SUPERNET_FILE = "supernet.pt"
SAFETENSORS_FILE = "supernet.safetensors"
"""The same for sharing, without any pickle."""
_PARTS: Parts = {
    "space": dict,
    "space_digest": str,
    "keypoints": (str, dict),
    "dataset": dict,
    "evaluation": dict,
    "objective": dict,
    "state": dict,
}
"""Keys of the file besides those that :func:`supernet.checkpoints.container.save` adds."""


@dataclass(frozen=True)
class TrainedSupernet:
    """A trained supernet and everything needed to use it.

    Attributes:
        dataset: Plain description of the data set that it was trained on (see :func:`supernet.pose.datasets.build`).
        evaluation: Plain inference settings that its AP was measured with.
        objective: The training objective, which fine-tuning a subnet uses, too.
        path: The file that it was read from.
        trained_on: All data sets of its weights, ``dataset`` among them.
    """

    supernet: SuperNet
    keypoints: KeypointSet
    dataset: dict[str, Any]
    evaluation: dict[str, Any]
    objective: PoseObjective
    path: Path
    trained_on: Lineage

    @property
    def started_from(self) -> Lineage:
        """The data sets of its weights besides ``dataset``, which may have been the first as well as the last."""
        own = training_data_of(self.dataset)
        return tuple(data for data in self.trained_on if data != own)


def save_supernet(
    path: str | Path,
    space: SearchSpace,
    state: Mapping[str, torch.Tensor],
    keypoints: KeypointSet,
    dataset: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    objective: PoseObjective,
    *,
    started_from: Lineage = (),
) -> None:
    """Write a supernet's weights with its space, keypoint set, data set and evaluation settings.

    ``started_from`` are the data sets of the weights that its training started from.
    """
    save(path, "supernet", _parts(space, state, keypoints, dataset, evaluation, objective, started_from))


def save_safetensors(path: str | Path, trained: TrainedSupernet, dataset: Mapping[str, Any]) -> None:
    """Write ``trained`` as a safetensors file, all or nothing, with another description of its data set.

    Raises:
        UserError: safetensors is not installed.
    """
    supernet = trained.supernet
    value = _parts(
        supernet.space,
        supernet.state_dict(),
        trained.keypoints,
        dataset,
        trained.evaluation,
        trained.objective,
        trained.started_from,
    )
    files.write_bytes(path, safetensors_file.serialize(value))


def _parts(
    space: SearchSpace,
    state: Mapping[str, torch.Tensor],
    keypoints: KeypointSet,
    dataset: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    objective: PoseObjective,
    started_from: Lineage,
) -> dict[str, Any]:
    """Return the parts of a file (``_PARTS``)."""
    return {
        "space": space.to_dict(),
        "space_digest": space.digest(),
        "keypoints": keypoints.to_plain(),
        "dataset": dict(dataset),
        "trained_on": to_plain(extended(started_from, training_data_of(dataset))),
        "evaluation": dict(evaluation),
        "objective": asdict(objective),
        "state": dict(state),
    }


def is_supernet(path: str | Path) -> bool:
    """Whether ``path`` is the folder of a training run with a supernet, or a file of this project and of no other.

    Raises:
        UserError: There is no such file, or it is one of this project and damaged.
    """
    path = located(path)
    if path.is_dir():
        return any((path / name).exists() for name in (SUPERNET_FILE, SAFETENSORS_FILE))
    content = files.read_bytes(path, "weights", files.HUGE)
    if safetensors_file.is_safetensors(content):
        return safetensors_file.is_supernet(content)
    if safe_torch.verify_checksum(content, path):
        return True
    try:
        value = safe_torch.deserialize(content)
    except safe_torch.DAMAGED:
        return False
    return isinstance(value, dict) and value.get("kind") == "supernet"


def load_supernet(path: str | Path) -> TrainedSupernet:
    """Read a trained supernet from its file, the folder of a training run, or a name such as ``pretrained:photos``.

    Raises:
        UserError: There is no such file, or its parts do not fit together.
    """
    given, folder = path, located(path)
    path = folder
    if path.is_dir():
        is_shared = not (path / SUPERNET_FILE).exists() and (path / SAFETENSORS_FILE).exists()
        path = path / (SAFETENSORS_FILE if is_shared else SUPERNET_FILE)
    if not path.exists():
        if is_exported(folder):
            raise UserError(
                f"{given} is an exported model, which is one network; name a supernet, as of a training run"
            )
        raise UserError(
            f"there is no trained supernet at {path}{without_prefix(path)}; run python -m supernet.train first or give "
            "another path"
        )
    content = files.read_bytes(path, "supernet file", files.HUGE)
    is_shared = safetensors_file.is_safetensors(content)
    value = safetensors_file.read(content, path) if is_shared else load(path, "supernet")
    check_parts(value, _PARTS, path)
    try:
        space, keypoints = SearchSpace.from_dict(value["space"]), from_plain(value["keypoints"])
        objective = from_mapping(PoseObjective, value["objective"], "objective")
        trained_on = from_plain_lineage(value.get("trained_on")) or (training_data_of(value["dataset"]),)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if space.digest() != value["space_digest"]:
        raise UserError(f"{path}: the space does not match its digest; the file is damaged, restore or recreate it")
    with torch.device("meta"):  # checks the sizes before memory is allocated
        check_state(SuperNet(space, keypoints.num), value["state"], path)
    supernet = SuperNet(space, keypoints.num)
    load_state(supernet, value["state"], path)
    return TrainedSupernet(
        supernet.eval(), keypoints, value["dataset"], value["evaluation"], objective, path, trained_on
    )
