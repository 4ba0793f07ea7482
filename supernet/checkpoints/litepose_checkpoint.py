"""Checkpoints of the published LitePose code, read without executing anything in them."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supernet.arch import Arch
from supernet.checkpoints import safe_torch
from supernet.errors import UserError
from supernet.io import files
from supernet.litepose import LitePose, in_channels_last

_PREFIXES = ("module.", "1.")
"""Of nets trained on several devices, and of nets behind a layer that turns images to half precision."""
_COUNTER = "num_batches_tracked"
_LAST_LAYER = "final_refined.1.conv.3.weight"
"""Has one output for each keypoint."""


def read_published(path: str | Path, arch: Arch, num_keypoints: int | None = None) -> LitePose:
    """Return the network of a published checkpoint in float32, on the CPU and in evaluation mode.

    The file holds a state dict, alone or under ``state_dict`` beside what its training needed. Half-precision values
    become float32; the counters of batch norm, which inference does not use, may be absent.

    Args:
        path: Of the checkpoint (``.pth.tar``, which is no tar archive).
        arch: Of the network; a checkpoint does not say.
        num_keypoints: K; None takes as many as the checkpoint has.

    Raises:
        UserError: The file is missing, damaged or holds code, or its entries are not those of the network; the
            first is named.
    """
    content = files.read_bytes(path, "checkpoint", files.HUGE)
    state = _state_dict(content, path)
    for prefix in _PREFIXES * 2:  # in either order
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    if num_keypoints is None:
        last = state.get(_LAST_LAYER)
        if last is None or last.dim() != 4 or not last.shape[0]:
            raise UserError(f"checkpoint {path} lacks the last layer {_LAST_LAYER}; give a whole LitePose")
        num_keypoints = last.shape[0]
    with torch.device("meta"):  # before there is memory for what may be too large
        own = LitePose(arch, num_keypoints).state_dict()
    missing = [name for name in own if name not in state and not name.endswith(_COUNTER)]
    surplus = [name for name in state if name not in own]
    for names, lack in ((missing, "lacks"), (surplus, "has besides what this arch needs")):
        if names:
            raise UserError(
                f"checkpoint {path} {lack} {len(names)} entries, first {names[0]}; give the arch that it was made with"
            )
    for name, value in state.items():
        wanted = own[name]
        if value.shape != wanted.shape:
            raise UserError(
                f"checkpoint {path}: {name} is {list(value.shape)}, but this arch with {num_keypoints} keypoints has "
                f"{list(wanted.shape)}; give the arch and keypoint set it was made with"
            )
        converted = value.to(wanted.dtype)
        if value.is_floating_point() != wanted.is_floating_point() or not torch.isfinite(converted).all():
            raise UserError(f"checkpoint {path}: {name} holds something that is no finite number; fetch the file again")
        own[name] = converted
    for name in own.keys() - state.keys():
        own[name] = torch.ones_like(own[name], device="cpu")  # a counter: the statistics beside it were computed
    network = LitePose(arch, num_keypoints)
    network.load_state_dict(own)
    in_channels_last(network)
    return network.eval()


def _state_dict(content: bytes, path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles; whether they can be read is told here
            value: Any = safe_torch.deserialize(content)
    except safe_torch.DAMAGED as error:
        raise UserError(
            f"checkpoint {path} is damaged or holds more than tensors and plain values, which could run code; nothing "
            "was run, fetch it again or have its state dict saved alone"
        ) from error
    if isinstance(value, Mapping) and isinstance(value.get("state_dict"), Mapping):
        value = value["state_dict"]
    if not isinstance(value, Mapping) or not value or not all(isinstance(each, Tensor) for each in value.values()):
        raise UserError(f"checkpoint {path} holds no state dict of plain tensors; give one of the published code")
    return {str(name): tensor for name, tensor in value.items()}
