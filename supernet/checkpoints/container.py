"""Files of tensors and plain values: the trained supernet, and a training run's state."""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from supernet.checkpoints import safe_torch
from supernet.errors import UserError
from supernet.io import files
from supernet.version import VERSION

FORMAT = 2
"""Of what :func:`save` writes. Supernets of format 1, which had no checksum, are still read."""
_NO_CHECKSUM_FORMAT = 1
_MOST_NAMED = 5
Parts = Mapping[str, type | tuple[type, ...]]
"""What a file has to hold: names, and the types of what stands there."""


def save(path: str | Path, kind: str, value: Mapping[str, Any], keep_previous: bool = False) -> None:
    """Write tensors and plain values, marked with their kind and the format version, all or nothing, with a checksum.

    Args:
        path: Of the file.
        kind: What it is, which :func:`load` asks for.
        value: What goes into it.
        keep_previous: Whether the file that was there stays as :func:`previous_of`.
    """
    packed = safe_torch.serialize({"format": FORMAT, "kind": kind, "code": VERSION, **value})
    safe_torch.deserialize(
        packed
    )  # writing takes more than reading does, which refuses all but tensors and plain values
    files.write_bytes(path, safe_torch.append_checksum(packed), previous_of(path) if keep_previous else None)


def load(path: str | Path, kind: str) -> dict[str, Any]:
    """Read what :func:`save` wrote, on the CPU; nothing in the file is executed.

    Raises:
        UserError: The file is missing, damaged, of another kind or of another format version.
    """
    content = files.read_bytes(path, f"{kind} file", files.HUGE)
    is_sealed = safe_torch.verify_checksum(content, path)
    try:
        value = safe_torch.deserialize(content)
    except safe_torch.DAMAGED as error:
        raise UserError(
            f"{path} is damaged or not a {kind} file of this project; restore it or make it anew"
        ) from error
    if not isinstance(value, dict) or value.get("kind") != kind:
        raise UserError(f"{path} is not a {kind} file; give one that this project wrote")
    version = value.get("format")
    if version == _NO_CHECKSUM_FORMAT and kind == "supernet":
        warnings.warn(f"{path} is of an older release and has no checksum; damage would go unseen", stacklevel=2)
    elif version != FORMAT:
        raise UserError(
            f"{path} has format version {version!r}, this release ({VERSION}) reads {FORMAT}; use the release that "
            "wrote it or make it anew"
        )
    elif not is_sealed:
        raise UserError(f"{path} is damaged: its sha256 is missing at its end; restore it or make it anew")
    return value


def previous_of(path: str | Path) -> Path:
    """Where the file before the one at ``path`` is kept."""
    path = Path(path)
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_newest(path: str | Path, kind: str) -> dict[str, Any]:
    """Read the file at ``path`` or, if it is missing or damaged, the one before it, which is told in a warning.

    A damaged file is moved aside, so that the next one does not push out the good one.

    Raises:
        UserError: Neither can be read.
    """
    path, previous = Path(path), previous_of(path)
    try:
        return load(path, kind)
    except UserError as error:
        if not previous.exists():
            raise
        try:
            value = load(previous, kind)
        except UserError as also:
            raise UserError(f"{error}; {also}") from error
        if path.exists():
            aside = path.with_name(f"{path.stem}.damaged{path.suffix}")
            with suppress(FileNotFoundError):  # another process of the run was quicker
                path.replace(aside)
            warnings.warn(f"{error}; going on from {previous}, the other one is now {aside}", stacklevel=2)
        else:
            warnings.warn(f"there is no {path}; going on from {previous}, which was written before it", stacklevel=2)
        return value


def check_parts(value: Mapping[str, Any], parts: Parts, path: str | Path) -> None:
    """Raise UserError unless ``value``, read from ``path``, has all ``parts``, each of its type."""
    for key, kinds in parts.items():
        if not isinstance(value.get(key), kinds):
            raise UserError(f"{path} is not whole: its {key} is missing or malformed; restore it or make it anew")


def load_state(network: torch.nn.Module, state: Any, path: str | Path) -> None:
    """Load ``state`` into ``network``; a missing, surplus or misshapen entry is a UserError naming it and the file."""
    check_state(network, state, path)
    network.load_state_dict(state)


def check_state(network: torch.nn.Module, state: Any, path: str | Path) -> None:
    """Make sure that ``state``, read from ``path``, fits ``network``, which needs no memory of its own.

    Raises:
        UserError: It is no state dict, or an entry is missing, surplus, or of another shape or type of numbers.
    """
    if not isinstance(state, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise UserError(f"{path} is not a state dict of plain tensors; restore it or make it anew")
    own = network.state_dict()
    wrong = [name for name in own if name not in state] + [str(name) for name in state if name not in own]
    wrong += [
        name
        for name, tensor in own.items()
        if name in state and (tensor.shape != state[name].shape or tensor.dtype != state[name].dtype)
    ]
    if wrong:
        named = ", ".join(wrong[:_MOST_NAMED])
        raise UserError(
            f"{path} does not fit the network: {len(wrong)} entries differ, first {named}; give matching files"
        )
