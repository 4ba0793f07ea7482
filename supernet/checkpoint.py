"""Files of tensors and plain values: the trained supernet, and a training run's state."""

import io
import pickle
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from supernet import files
from supernet.errors import UserError
from supernet.pose.custom_keypoints import from_plain
from supernet.pose.keypoints import KeypointSet
from supernet.pose.objective import PoseObjective
from supernet.settings import from_mapping
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

FORMAT = 1
# What torch.load was seen to raise on damaged files; most of it comes from the unpickler inside.
DAMAGED = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)
SUPERNET_FILE = "supernet.pt"


@dataclass(frozen=True)
class TrainedSupernet:
    """A trained supernet with what is needed to use it.

    Attributes:
        dataset: Plain description of the data set it was trained on (see :func:`supernet.pose.datasets.build`).
        evaluation: Plain inference settings its figures were measured with.
        objective: What it was trained for, which fine-tuning a subnet goes on with.
        path: The file it came from.
    """

    supernet: SuperNet
    keypoints: KeypointSet
    dataset: dict[str, Any]
    evaluation: dict[str, Any]
    objective: PoseObjective
    path: Path


def save(path: str | Path, kind: str, value: Mapping[str, Any]) -> None:
    """Write tensors and plain values, marked with their kind and the format version, all or nothing."""
    # Written in two steps, as torch's own writer turns a full disk into an error that does not say so.
    content = io.BytesIO()
    torch.save({"format": FORMAT, "kind": kind, **value}, content)
    with files.atomic(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load(path: str | Path, kind: str) -> dict[str, Any]:
    """Read what :func:`save` wrote, on the CPU; nothing in the file is executed.

    Raises:
        UserError: The file is missing, damaged, of another kind or of another format version.
    """
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {kind} file {path}: {error.strerror or error}; check the path") from error
    except DAMAGED as error:
        raise UserError(
            f"{path} is damaged or not a {kind} file of this project; restore it or make it anew"
        ) from error
    if not isinstance(value, dict) or value.get("kind") != kind:
        raise UserError(f"{path} is not a {kind} file; give one that this project wrote")
    if value.get("format") != FORMAT:
        raise UserError(
            f"{path} has format version {value.get('format')!r}, this release reads {FORMAT}; export it anew"
        )
    return value


def save_supernet(
    path: str | Path,
    space: SearchSpace,
    state: Mapping[str, torch.Tensor],
    keypoints: KeypointSet,
    dataset: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    objective: PoseObjective,
) -> None:
    """Write a supernet's weights with its space, keypoint set, data set and evaluation settings."""
    value = {
        "space": space.to_dict(),
        "space_digest": space.digest(),
        "keypoints": keypoints.to_plain(),
        "dataset": dict(dataset),
        "evaluation": dict(evaluation),
        "objective": asdict(objective),
        "state": dict(state),
    }
    save(path, "supernet", value)


def load_supernet(path: str | Path) -> TrainedSupernet:
    """Read a trained supernet from its file or from the folder of a training run.

    Raises:
        UserError: No such file, or one that does not hold together.
    """
    path = Path(path)
    if path.is_dir():
        path = path / SUPERNET_FILE
    if not path.exists():
        raise UserError(
            f"there is no trained supernet at {path}; run python -m supernet.train first or name another one"
        )
    value = load(path, "supernet")
    space, keypoints = SearchSpace.from_dict(value["space"]), from_plain(value["keypoints"])
    if space.digest() != value["space_digest"]:
        raise UserError(f"{path}: the space does not match its digest; the file is damaged, make it anew")
    supernet = SuperNet(space, keypoints.num)
    load_state(supernet, value["state"], path)
    objective = from_mapping(PoseObjective, value["objective"], "objective")
    return TrainedSupernet(supernet.eval(), keypoints, value["dataset"], value["evaluation"], objective, path)


def load_state(network: torch.nn.Module, state: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Load ``state`` into ``network``; a missing, surplus or misshapen entry is a UserError naming it and the file."""
    own = network.state_dict()
    wrong = sorted(set(own) ^ set(state)) or [name for name, tensor in own.items() if tensor.shape != state[name].shape]
    if wrong:
        raise UserError(
            f"{path} does not fit the network: {len(wrong)} entries differ, first {wrong[0]}; give matching files"
        )
    network.load_state_dict(dict(state))
