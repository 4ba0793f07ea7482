"""Warm start: a supernet that starts from another one, an exported network, a published LitePose or a backbone."""

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from supernet.arch import Arch
from supernet.channel_sorting import DIMENSIONS, channel_axes, channel_orders, reorder_channels
from supernet.checkpoints import efficientnet_lite
from supernet.checkpoints.exported_network import is_exported, load_net
from supernet.checkpoints.lineage import IMAGENET, PUBLISHED, Lineage
from supernet.checkpoints.litepose_checkpoint import read_published
from supernet.checkpoints.pretrained import located
from supernet.checkpoints.supernet_file import TrainedSupernet, is_supernet, load_supernet
from supernet.errors import UserError
from supernet.litepose import LAST_LAYERS, LitePose, rows_of_keypoints
from supernet.pose.keypoint_names import sources_of
from supernet.pose.keypoints import KeypointSet
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet


@dataclass(frozen=True)
class WarmStart:
    """Trained weights of a network, or of its backbone alone, whose arch is in the supernet's space.

    Attributes:
        arch: The network's arch.
        tensors: Weights and batch-norm statistics by LitePose name, on the CPU; a pretrained backbone has no head.
        keypoints: The keypoints that the network predicts; None for a published checkpoint, which has only their
            number, and for a backbone.
        source: File, folder or name that they were read from.
        licence: Of the weights, as an SPDX identifier; None if it is not known here.
        trained_on: The data sets of the weights.
        kernel_transforms: Of a supernet, by their names in it; those that the new supernet lacks are not used.
    """

    arch: Arch
    tensors: dict[str, Tensor]
    keypoints: KeypointSet | None
    source: str
    licence: str | None = None
    trained_on: Lineage = (PUBLISHED,)
    kernel_transforms: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_network(
        cls, network: LitePose, keypoints: KeypointSet | None, source: str, trained_on: Lineage = (PUBLISHED,)
    ) -> Self:
        """Return the start from all weights of ``network``."""
        return cls(network.arch, dict(network.state_dict()), keypoints, source, trained_on=trained_on)

    @classmethod
    def from_supernet(cls, trained: TrainedSupernet, source: str, space: SearchSpace) -> Self:
        """Return the start of a supernet of ``space`` from the shared weights of a trained one.

        They are all of them if its largest subnet is in ``space``, otherwise those of the largest subnet of ``space``.

        Raises:
            UserError: Neither space has the largest subnet of the other.
        """
        supernet, own = trained.supernet, trained.supernet.space
        network, largest = supernet.network, _at_resolution_of(space.largest(), own)
        if _at_resolution_of(own.largest(), space) not in space:
            if largest not in own:
                raise UserError(
                    f"init={source} is a supernet of the space {own.name}, but neither this space nor {space.name} "
                    f"contains the other's largest subnet; choose {own.name}, or export a subnet and name its folder"
                )
            network = supernet.extract(largest)
        start = cls.from_network(network, trained.keypoints, source, trained.trained_on)
        transforms = {name: value.detach() for name, value in supernet.kernel_transforms.items()}
        return replace(start, kernel_transforms=transforms)

    @property
    def num_keypoints(self) -> int:
        """K of the network, 0 without a head."""
        name, num_maps = next(iter(LAST_LAYERS.items()))
        return self.tensors[name].shape[0] // num_maps if name in self.tensors else 0

    def sources(self, keypoints: KeypointSet) -> list[int | None]:
        """Return for each of ``keypoints`` its index among those that the network predicts, or None."""
        if self.keypoints is not None:
            return sources_of(keypoints.names, self.keypoints.names)
        return [*range(keypoints.num)] if self.num_keypoints == keypoints.num else [None] * keypoints.num


def read_warm_start(path: str, arch_path: str | None, space: SearchSpace) -> WarmStart:
    """Read the weights that a supernet of ``space`` starts from.

    Args:
        path: Name of a pretrained backbone (:data:`supernet.checkpoints.efficientnet_lite.VARIANTS`) or of other
            pretrained weights (:mod:`supernet.checkpoints.pretrained`); a training run, or its supernet.pt, whose space
            contains this one or lies in it; folder of an exported model; or a checkpoint of the published code.
        arch_path: LitePose JSON of a published checkpoint's arch, which the checkpoint does not contain.
        space: The supernet's space.

    Raises:
        UserError: A file is missing or damaged, arch and checkpoint do not match, or the arch is outside the space.
    """
    is_backbone = path in efficientnet_lite.VARIANTS
    if not is_backbone and not located(path).exists():
        raise UserError(
            f"init={path} does not exist; name an exported model, a training run, a published checkpoint, or one of "
            f"{', '.join(efficientnet_lite.VARIANTS)}"
        )
    has_space = not is_backbone and is_supernet(path)
    if arch_path is not None and (is_backbone or has_space or is_exported(path)):
        raise UserError(
            f"init_arch={arch_path} is for published checkpoints; {path} has its own arch, remove init_arch"
        )
    if is_backbone:
        largest = space.largest()
        arch = efficientnet_lite.backbone_arch(path, largest.deconv_widths, largest.resolution)
        tensors = efficientnet_lite.read_backbone(path, arch)
        for dimension in DIMENSIONS:  # so that narrower subnets start from the most important channels
            reorder_channels(tensors, arch, channel_orders(tensors, arch, dimension))
        start = WarmStart(arch, tensors, None, path, efficientnet_lite.LICENCE, (IMAGENET,))
    elif is_exported(path):
        exported = load_net(path)
        start = WarmStart.from_network(exported.network, exported.keypoints, path, exported.trained_on)
    elif has_space:
        start = WarmStart.from_supernet(load_supernet(path), path, space)
    elif located(path).is_dir():
        raise UserError(
            f"init={path} contains no exported model and no supernet; name a folder that python -m subnet_export or "
            "python -m supernet.train wrote"
        )
    elif arch_path is None:
        raise UserError(f"init={path} does not contain its arch; add init_arch=FILE, the arch in LitePose's JSON")
    else:
        start = WarmStart.from_network(read_published(path, Arch.load(arch_path)), None, path)
    try:
        space.check(_at_resolution_of(start.arch, space))
    except UserError as error:
        raise UserError(f"init={path} is not a subnet of the space {space.name}: {error}") from error
    return start


@torch.no_grad()
def load_warm_start(supernet: SuperNet, start: WarmStart, keypoints: KeypointSet) -> str:
    """Copy trained weights into their slices of the supernet, so that their subnet equals the network.

    The largest subnet, which may have more channels and blocks and larger kernels, becomes the same function: larger
    kernels get a border of 0, blocks beyond the network's last one a last gain of 0, and added channels reach the
    others with a weight of 0 ("function-preserving", Net2Net, arXiv 1511.05641). Everything else stays random, and so
    do the last layers for keypoints that the network does not predict. The largest subnet is another function if only
    one of the two has a residual in the first block of a stage, which needs the same width before it.

    Args:
        supernet: Changed in place.
        start: The weights.
        keypoints: The keypoints of the supernet.

    Returns:
        One sentence with the number of weights that come from the network.
    """
    sources = start.sources(keypoints)
    own, largest = supernet.network.state_dict(), supernet.space.largest()
    parameters = dict(supernet.network.named_parameters())
    layers, num_copied = channel_axes(largest), 0
    for name, value in start.tensors.items():
        _, input_axes = layers.get(name.rpartition(".")[0], ((), ()))
        copied = [(own[name], value)]
        if name in LAST_LAYERS:
            rows = rows_of_keypoints(name, sources, start.num_keypoints)
            copied = [(own[name][row : row + 1], value[other : other + 1]) for row, other in rows]
        for place, part in copied:
            _embed(place, part, input_axes)
            num_copied += part.numel() * (name in parameters)
    for i, (stage, trained) in enumerate(zip(largest.stages, start.arch.stages, strict=True)):
        for j in range(trained.depth, stage.depth):
            own[f"stage.{i}.{j}.point_conv.1.weight"].zero_()
    for name, own_transform in supernet.kernel_transforms.items():
        if name in start.kernel_transforms:
            own_transform.copy_(start.kernel_transforms[name])
    total = sum(parameter.numel() for parameter in parameters.values())
    num_kept = sum(source is not None for source in sources)
    if not start.num_keypoints:
        heads = ", among them the head"
    elif not num_kept:
        heads = "; last layers are random too, because they are for other keypoints"
    elif num_kept < keypoints.num:
        heads = f"; last layers know {num_kept} of the {keypoints.num} keypoints by name and are random for the others"
    else:
        heads = ""
    share = f"{num_copied:,} of {total:,} weights ({num_copied / total:.0%}) come from {start.source}"
    message = share if num_copied == total else f"{share}, the others start at random{heads}"
    if start.arch.residual_stages != largest.residual_stages:
        message += "; the largest subnet starts as another function, as only one of them has a residual between stages"
    return message


def _at_resolution_of(arch: Arch, space: SearchSpace) -> Arch:
    """Return ``arch`` at a resolution of ``space``, because weights fit any."""
    return replace(arch, resolution=space.resolutions[-1])


def _embed(place: Tensor, value: Tensor, input_axes: tuple[int, ...]) -> None:
    """Write ``value`` to the leading channels and central pixels of ``place``; its outputs ignore added inputs."""
    leading = tuple(slice(size) for size in value.shape[:2])
    for axis in input_axes:
        added = [*leading]
        added[axis] = slice(value.shape[axis], None)
        place[tuple(added)] = 0.0
    inner = place[leading]
    if value.dim() == 4:  # smaller kernels lie in the centre of larger ones
        border = (inner.shape[-1] - value.shape[-1]) // 2
        inner.zero_()
        inner = inner[..., border : border + value.shape[-2], border : border + value.shape[-1]]
    inner.copy_(value)
