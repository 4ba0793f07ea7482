"""A supernet that begins with the weights of a trained network: one of our exports or a published LitePose."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from supernet.arch import Arch
from supernet.checkpoints.exported_network import is_exported, load_net
from supernet.checkpoints.litepose_checkpoint import read_published
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.keypoints import KeypointSet
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

_LAST_LAYERS = tuple(f"final_{branch}.{level}.conv.3.weight" for branch in ("refined", "raw") for level in range(2))
"""What differs between keypoint sets."""


@dataclass(frozen=True)
class WarmStart:
    """A trained network, whose arch is one of the supernet's.

    Attributes:
        network: On the CPU, with its batch-norm statistics.
        keypoints: What it predicts; None for a published one, which tells only how many.
        path: Where it comes from.
    """

    network: LitePose
    keypoints: KeypointSet | None
    path: Path

    def predicts(self, keypoints: KeypointSet) -> bool:
        """Whether its last layers are for these keypoints."""
        if self.keypoints is None:
            return self.network.num_keypoints == keypoints.num
        return self.keypoints.names == keypoints.names


def read_warm_start(path: str, arch_path: str | None, space: SearchSpace) -> WarmStart:
    """Read the network that a supernet of ``space`` is to begin with.

    Args:
        path: Folder of an exported model, or a checkpoint of the published code.
        arch_path: LitePose JSON of a published checkpoint's arch, which the checkpoint does not tell.
        space: Of the supernet.

    Raises:
        UserError: Something is missing, damaged, or does not fit the other, or the arch is outside the space.
    """
    if not Path(path).exists():
        raise UserError(f"there is nothing at init={path}; name an exported model or a published checkpoint")
    if is_exported(path):
        if arch_path is not None:
            raise UserError(f"init_arch={arch_path} is for published checkpoints; {path} knows its arch, leave it out")
        exported = load_net(path)
        start = WarmStart(exported.network, exported.keypoints, Path(path))
    elif Path(path).is_dir():
        raise UserError(f"init={path} holds no exported model; name a folder that python -m subnet_export wrote")
    elif arch_path is None:
        raise UserError(f"init={path} does not tell its arch; add init_arch=FILE, LitePose's JSON of it")
    else:
        start = WarmStart(read_published(path, Arch.load(arch_path)), None, Path(path))
    try:
        space.check(replace(start.network.arch, resolution=space.resolutions[-1]))  # weights fit any resolution
    except UserError as error:
        raise UserError(f"init={path} is no subnet of the space {space.name}: {error}") from error
    return start


@torch.no_grad()
def load_warm_start(supernet: SuperNet, start: WarmStart, keypoints: KeypointSet) -> str:
    """Put a network's weights where its arch lies in the supernet, so that this subnet is that network.

    All other weights stay as they are, and so do the last layers if they are for other keypoints than ``keypoints``,
    those of the supernet.

    Returns:
        One sentence on how many of the weights came from the network.
    """
    same_keypoints = start.predicts(keypoints)
    own, given = supernet.network.state_dict(), 0
    parameters = dict(supernet.network.named_parameters())
    for name, value in start.network.state_dict().items():
        if name in _LAST_LAYERS and not same_keypoints:
            continue
        place = own[name][tuple(slice(size) for size in value.shape[:2])]
        if value.dim() == 4:  # smaller kernels lie in the centre of larger ones
            border = (place.shape[-1] - value.shape[-1]) // 2
            place = place[..., border : border + value.shape[-2], border : border + value.shape[-1]]
        place.copy_(value)
        given += value.numel() if name in parameters else 0
    total = sum(parameter.numel() for parameter in parameters.values())
    heads = "" if same_keypoints else "; its last layers are for other keypoints and begin anew"
    return f"{given:,} of {total:,} weights ({given / total:.0%}) come from {start.path}, the others begin anew{heads}"
