"""Warm start: a supernet that starts from a trained network, one of our exports or a published LitePose."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from supernet.arch import Arch
from supernet.checkpoints.exported_network import is_exported, load_net
from supernet.checkpoints.lineage import PUBLISHED, Lineage
from supernet.checkpoints.litepose_checkpoint import read_published
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.keypoints import KeypointSet
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

_LAST_LAYERS = tuple(f"final_{branch}.{level}.conv.3.weight" for branch in ("refined", "raw") for level in range(2))
"""Layers whose shape depends on the keypoint set."""


@dataclass(frozen=True)
class WarmStart:
    """A trained network whose arch is in the supernet's space.

    Attributes:
        network: The network, on the CPU, with its batch-norm statistics.
        keypoints: The keypoints that it predicts; None for a published checkpoint, which has only their number.
        path: File or folder it was read from.
        trained_on: The data sets of its weights.
    """

    network: LitePose
    keypoints: KeypointSet | None
    path: Path
    trained_on: Lineage = (PUBLISHED,)

    def predicts(self, keypoints: KeypointSet) -> bool:
        """Whether the network's last layers predict these keypoints."""
        if self.keypoints is None:
            return self.network.num_keypoints == keypoints.num
        return self.keypoints.names == keypoints.names


def read_warm_start(path: str, arch_path: str | None, space: SearchSpace) -> WarmStart:
    """Read the network that a supernet of ``space`` starts from.

    Args:
        path: Folder of an exported model, or a checkpoint of the published code.
        arch_path: LitePose JSON of a published checkpoint's arch, which the checkpoint does not contain.
        space: The supernet's space.

    Raises:
        UserError: A file is missing or damaged, arch and checkpoint do not match, or the arch is outside the space.
    """
    if not Path(path).exists():
        raise UserError(f"init={path} does not exist; name an exported model or a published checkpoint")
    if is_exported(path):
        if arch_path is not None:
            raise UserError(
                f"init_arch={arch_path} is for published checkpoints; {path} has its own arch, remove init_arch"
            )
        exported = load_net(path)
        start = WarmStart(exported.network, exported.keypoints, Path(path), exported.trained_on)
    elif Path(path).is_dir():
        raise UserError(f"init={path} contains no exported model; name a folder that python -m subnet_export wrote")
    elif arch_path is None:
        raise UserError(f"init={path} does not contain its arch; add init_arch=FILE, the arch in LitePose's JSON")
    else:
        start = WarmStart(read_published(path, Arch.load(arch_path)), None, Path(path))
    try:
        space.check(replace(start.network.arch, resolution=space.resolutions[-1]))  # weights fit any resolution
    except UserError as error:
        raise UserError(f"init={path} is not a subnet of the space {space.name}: {error}") from error
    return start


@torch.no_grad()
def load_warm_start(supernet: SuperNet, start: WarmStart, keypoints: KeypointSet) -> str:
    """Copy a network's weights into its slices of the supernet, so that this subnet equals the network.

    All other weights stay as they are, and so do the last layers if the network predicts other keypoints.

    Args:
        supernet: Changed in place.
        start: The network.
        keypoints: The keypoints of the supernet.

    Returns:
        One sentence with the number of weights that come from the network.
    """
    same_keypoints = start.predicts(keypoints)
    own, num_copied = supernet.network.state_dict(), 0
    parameters = dict(supernet.network.named_parameters())
    for name, value in start.network.state_dict().items():
        if name in _LAST_LAYERS and not same_keypoints:
            continue
        place = own[name][tuple(slice(size) for size in value.shape[:2])]
        if value.dim() == 4:  # smaller kernels lie in the centre of larger ones
            border = (place.shape[-1] - value.shape[-1]) // 2
            place = place[..., border : border + value.shape[-2], border : border + value.shape[-1]]
        place.copy_(value)
        num_copied += value.numel() if name in parameters else 0
    total = sum(parameter.numel() for parameter in parameters.values())
    heads = "" if same_keypoints else "; last layers are random too, because they are for other keypoints"
    share = f"{num_copied:,} of {total:,} weights ({num_copied / total:.0%})"
    return f"{share} come from {start.path}, the others start at random{heads}"
