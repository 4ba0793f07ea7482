"""Reads checkpoints of the published LitePose code without executing anything in them."""

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
"""Prefixes of networks trained on several devices, and of networks behind a layer that converts to half precision."""
_COUNTER = "num_batches_tracked"
_LAST_LAYER = "final_refined.1.conv.3.weight"
"""Name of a weight with one output channel per keypoint."""


def read_published(path: str | Path, arch: Arch, num_keypoints: int | None = None) -> LitePose:
    """Return the network of a published checkpoint in float32, on the CPU and in evaluation mode.

    The file holds a state dict, alone or under ``state_dict`` beside the training state. Half-precision values become
    float32; the counters of batch norm, which inference does not use, may be absent.

    Args:
        path: The checkpoint (``.pth.tar``, which is not a tar archive).
        arch: Architecture of the network, which a checkpoint does not hold.
        num_keypoints: K; None reads it from the checkpoint.

    Raises:
        UserError: The file is missing, damaged or holds code, or its entries do not fit the network; the message
            names the first.
    """
    content = files.read_bytes(path, "checkpoint", files.HUGE)
    state = _state_dict(content, path)
    for prefix in _PREFIXES * 2:  # in either order
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    if num_keypoints is None:
        last = state.get(_LAST_LAYER)
        if last is None or last.dim() != 4 or not last.shape[0]:
            raise UserError(f"checkpoint {path} lacks the last layer {_LAST_LAYER}; give a complete LitePose")
        num_keypoints = last.shape[0]
    with torch.device("meta"):  # checks the sizes before memory is allocated
        expected = LitePose(arch, num_keypoints).state_dict()
    missing = [name for name in expected if name not in state and not name.endswith(_COUNTER)]
    surplus = [name for name in state if name not in expected]
    for names, lack in ((missing, "lacks"), (surplus, "has, beyond those of this arch,")):
        if names:
            raise UserError(
                f"checkpoint {path} {lack} {len(names)} entries, first {names[0]}; give the arch of the checkpoint"
            )
    for name, value in state.items():
        target = expected[name]
        if value.shape != target.shape:
            raise UserError(
                f"checkpoint {path}: {name} is {list(value.shape)}, but this arch with {num_keypoints} keypoints has "
                f"{list(target.shape)}; give the arch and keypoint set of the checkpoint"
            )
        converted = value.to(target.dtype)
        if value.is_floating_point() != target.is_floating_point() or not torch.isfinite(converted).all():
            raise UserError(f"checkpoint {path}: {name} holds values that are not finite; download the file again")
        expected[name] = converted
    for name in expected.keys() - state.keys():
        expected[name] = torch.ones_like(expected[name], device="cpu")  # a counter; above 0 means calibrated
    network = LitePose(arch, num_keypoints)
    network.load_state_dict(expected)
    in_channels_last(network)
    return network.eval()


def _state_dict(content: bytes, path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual pickles; errors are reported below
            value: Any = safe_torch.deserialize(content)
    except safe_torch.DAMAGED as error:
        raise UserError(
            f"checkpoint {path} is damaged or holds more than tensors and plain values, which could run code; nothing "
            "was run, download it again or save only its state dict"
        ) from error
    if isinstance(value, Mapping) and isinstance(value.get("state_dict"), Mapping):
        value = value["state_dict"]
    if not isinstance(value, Mapping) or not value or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise UserError(f"checkpoint {path} holds no state dict of tensors; give one of the published code")
    return {str(name): tensor for name, tensor in value.items()}
