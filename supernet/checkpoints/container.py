"""Reads and writes files of tensors and plain values: trained supernets, and the state of training runs."""

import logging
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
"""Version of what :func:`save` writes. Supernets of version 1, which had no checksum, can still be read."""
_NO_CHECKSUM_FORMAT = 1
_MOST_NAMED = 5
Parts = Mapping[str, type | tuple[type, ...]]
"""Required keys of a file, and the types of their values."""

logger = logging.getLogger(__name__)


def save(path: str | Path, kind: str, value: Mapping[str, Any], keep_previous: bool = False) -> None:
    """Write tensors and plain values with their kind, the format version and a checksum, all or nothing.

    Args:
        path: The file.
        kind: What the file holds, such as "supernet"; :func:`load` checks it.
        value: Tensors and plain values by name.
        keep_previous: Whether to keep an existing file as :func:`previous_of`.
    """
    packed = safe_torch.serialize({"format": FORMAT, "kind": kind, "code": VERSION, **value})
    safe_torch.deserialize(packed)  # fails for what could not be read back
    files.write_bytes(path, safe_torch.append_checksum(packed), previous_of(path) if keep_previous else None)


def load(path: str | Path, kind: str) -> dict[str, Any]:
    """Read a file that :func:`save` wrote, to the CPU; nothing in the file is executed.

    Raises:
        UserError: The file is missing, damaged, of another kind or of another format version.
    """
    content = files.read_bytes(path, f"{kind} file", files.HUGE)
    has_checksum = safe_torch.verify_checksum(content, path)
    try:
        value = safe_torch.deserialize(content)
    except safe_torch.DAMAGED as error:
        raise UserError(f"{path} is damaged or not a {kind} file of this project; restore or recreate it") from error
    if not isinstance(value, dict) or value.get("kind") != kind:
        raise UserError(f"{path} is not a {kind} file; give one that this project wrote")
    version = value.get("format")
    if version == _NO_CHECKSUM_FORMAT and kind == "supernet":
        logger.warning("%s is of an older release and has no checksum, so damage cannot be detected", path)
    elif version != FORMAT:
        raise UserError(
            f"{path} has format version {version!r}, this release ({VERSION}) reads {FORMAT}; use the release that "
            "wrote it or recreate it"
        )
    elif not has_checksum:
        raise UserError(f"{path} is damaged: its sha256 is missing; restore or recreate it")
    return value


def previous_of(path: str | Path) -> Path:
    """Return where the previous version of the file at ``path`` is kept."""
    path = Path(path)
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_newest(path: str | Path, kind: str) -> dict[str, Any]:
    """Read the file at ``path`` or, if it is missing or damaged, its previous version, with a warning.

    A damaged file is renamed, so that the next save does not replace the good previous version with it.

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
        except UserError as previous_error:
            raise UserError(f"{error}; {previous_error}") from error
        if path.exists():
            damaged = path.with_name(f"{path.stem}.damaged{path.suffix}")
            with suppress(FileNotFoundError):  # another process of the run has renamed it
                path.replace(damaged)
            logger.warning("%s; continuing from %s, the damaged file is now %s", error, previous, damaged)
        else:
            logger.warning("there is no %s; continuing from its previous version %s", path, previous)
        return value


def check_parts(value: Mapping[str, Any], parts: Parts, path: str | Path) -> None:
    """Raise UserError unless ``value``, read from ``path``, has all ``parts`` with their types."""
    for key, kinds in parts.items():
        if not isinstance(value.get(key), kinds):
            raise UserError(f"{path} is incomplete: {key} is missing or malformed; restore or recreate the file")


def load_state(network: torch.nn.Module, state: Any, path: str | Path) -> None:
    """Load ``state``, read from ``path``, into ``network`` after :func:`check_state`."""
    check_state(network, state, path)
    network.load_state_dict(state)


def check_state(network: torch.nn.Module, state: Any, path: str | Path) -> None:
    """Make sure that ``state``, read from ``path``, fits ``network``, which may be on the meta device.

    Weights may be stored in 16 bits (:func:`in_half`); loading them casts them. Statistics and counters may not: a
    variance easily leaves the range of 16 bits.

    Raises:
        UserError: It is not a state dict, or an entry is missing, unknown, or of another shape or dtype.
    """
    if not isinstance(state, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise UserError(f"{path} is not a state dict of plain tensors; restore or recreate it")
    expected, weights = network.state_dict(), {name for name, _ in network.named_parameters()}
    wrong = [name for name in expected if name not in state] + [str(name) for name in state if name not in expected]
    wrong += [
        name
        for name, tensor in expected.items()
        if name in state
        and (tensor.shape != state[name].shape or not _is_stored_as(tensor, state[name], may_be_half=name in weights))
    ]
    if wrong:
        named = ", ".join(wrong[:_MOST_NAMED])
        raise UserError(
            f"{path} does not fit the network: {len(wrong)} entries differ, first {named}; give matching files"
        )


def _is_stored_as(expected: torch.Tensor, stored: torch.Tensor, may_be_half: bool) -> bool:
    """Whether the precision of a ``stored`` tensor is that of the ``expected`` one, or 16 bits where it may be."""
    half = may_be_half and expected.dtype == torch.float32 and stored.dtype == torch.float16
    return stored.dtype == expected.dtype or half


def in_half(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the state of ``network`` with weights rounded to 16 bits; statistics and counters stay as they are.

    Raises:
        UserError: A weight is too large for 16 bits, or not finite.
    """
    weights = {name for name, _ in network.named_parameters()}
    state = {}
    for name, tensor in network.state_dict().items():
        stored = tensor.half() if name in weights else tensor
        if not torch.isfinite(stored).all():
            raise UserError(f"{name} has a value that is too large for 16 bits; keep the file in 32 bits")
        state[name] = stored.detach().cpu().contiguous()
    return state
