"""The supernet: the slices of the largest network that a subnet uses, and the extraction of a subnet.

Source: Once-for-All (arXiv 1908.09791), section 3.3 (elastic kernel by transformation matrices, elastic depth and
width). We differ in computing a subnet by calling its own plain network with slices as weights, so that no layer needs
an elastic version and extraction is the same function.
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from supernet.arch import Arch
from supernet.litepose import LitePose, in_channels_last
from supernet.space import SearchSpace
from supernet.subnet_templates import SubnetTemplates

_DEPTHWISE = re.compile(r"stage\.(\d+)\.(\d+)\.depth_conv\.0\.weight")


class SuperNet(nn.Module):
    """Weights of every subnet of a space.

    Args:
        space: The search space.
        num_keypoints: K.
        adapt: Changes the layers of training networks, see :class:`supernet.subnet_templates.SubnetTemplates`.

    Attributes:
        space: The search space.
        network: LitePose of the largest arch; subnets use leading channels, centred kernels and first blocks of it.
        kernel_transforms: Per elastic depthwise layer, square matrices 7->5 (25 x 25) and 5->3 (9 x 9) that act on
            the flattened centre of the larger kernel; the identity at the start.
        templates: The networks of subnets, without weights; copies of a supernet share them.
    """

    def __init__(
        self, space: SearchSpace, num_keypoints: int, adapt: Callable[[nn.Module], None] | None = None
    ) -> None:
        super().__init__()
        self.space, self.num_keypoints = space, num_keypoints
        self.network = LitePose(space.largest(), num_keypoints)
        self.kernel_transforms = nn.ParameterDict()
        for i, stage in enumerate(space.stages):
            for j in range(stage.depths[-1]):
                for size in range(stage.kernel_sizes[0], stage.kernel_sizes[-1], 2):
                    self.kernel_transforms[_transform_name(i, j, size)] = nn.Parameter(_identity(size * size))
        self.templates = SubnetTemplates(space, num_keypoints, adapt)
        in_channels_last(self)

    def forward(self, images: Tensor, arch: Arch) -> tuple[Tensor, Tensor]:
        """Compute subnet ``arch`` on normalised ``images`` (B, 3, H, W).

        In training mode every batch norm uses the batch's statistics and records none, because statistics of training
        belong to no single subnet. In evaluation mode it uses slices of the recorded statistics, which are right only
        for a calibrated network (:mod:`supernet.evaluation.calibration`).

        Returns:
            ``low`` (B, 2K, H/4, W/4) and ``high`` (B, K, H/2, W/2), as LitePose does.

        Raises:
            UserError: ``arch`` is outside the space.
        """
        template = self.templates(arch, self.training)
        weights = self.slices(arch, template, buffers=not self.training)
        out: tuple[Tensor, Tensor] = functional_call(template, weights, (images,), strict=not self.training)
        return out

    def slices(self, arch: Arch, template: LitePose, buffers: bool) -> dict[str, Tensor]:
        """Return by LitePose name the slice of every parameter (and buffer) that ``arch`` uses, differentiable."""
        shared: dict[str, Tensor] = dict(self.network.named_parameters())
        targets: dict[str, Tensor] = dict(template.named_parameters())
        if buffers:
            shared |= dict(self.network.named_buffers())
            targets |= dict(template.named_buffers())
        slices = {}
        for name, target in targets.items():
            weight = shared[name]
            leading = tuple(slice(size) for size in target.shape[:2])
            elastic_kernel = _DEPTHWISE.fullmatch(name)
            if elastic_kernel and weight.shape[-1] != target.shape[-1]:
                stage, block = map(int, elastic_kernel.groups())
                slices[name] = self.shrink_kernel(weight[leading], stage, block, target.shape[-1])
            else:
                slices[name] = weight if weight.shape == target.shape else weight[leading]
        return slices

    @torch.no_grad()
    def extract(self, arch: Arch) -> LitePose:
        """Return subnet ``arch`` as a separate network in evaluation mode, with copies of its slices and statistics.

        Raises:
            UserError: ``arch`` is outside the space.
        """
        template = self.templates(arch, training=False)
        first = next(self.network.parameters())
        network = LitePose(arch, self.num_keypoints).to(first.device, first.dtype)
        network.load_state_dict(self.slices(arch, template, buffers=True))
        in_channels_last(network)
        return network.eval()

    def shrink_kernel(self, weight: Tensor, stage: int, block: int, size: int) -> Tensor:
        """Shrink a depthwise ``weight`` (C, 1, k, k) of a block to ``size`` in steps of two, by its transformations."""
        for smaller in range(weight.shape[-1] - 2, size - 1, -2):
            centre = weight[..., 1:-1, 1:-1].reshape(weight.shape[0], smaller * smaller)
            transformed = centre @ self.kernel_transforms[_transform_name(stage, block, smaller)]
            weight = transformed.reshape(weight.shape[0], 1, smaller, smaller)
        return weight

    def partly_used_transforms(self) -> dict[str, Tensor]:
        """Return by name which outputs (size * size,) of each kernel transformation whose size is no choice are used.

        With kernels of 3 and 7, one of 5 is only the way to one of 3, which is its centre.
        """
        used: dict[str, Tensor] = {}
        for i, stage in enumerate(self.space.stages):
            for size in set(range(stage.kernel_sizes[0], stage.kernel_sizes[-1], 2)) - set(stage.kernel_sizes):
                outputs = torch.zeros(size, size, dtype=torch.bool)
                outputs[1:-1, 1:-1] = True
                used |= {_transform_name(i, j, size): outputs.flatten() for j in range(stage.depths[-1])}
        return used


def is_backbone(parameter: str) -> bool:
    """Whether a supernet's parameter, given by its name, belongs to the backbone; the others belong to the head."""
    return parameter.startswith(("network.first.", "network.stage.", "kernel_transforms."))


def _transform_name(stage: int, block: int, size: int) -> str:
    """Name of the transformation of ``stage``, ``block`` from kernel ``size + 2`` to ``size``."""
    return f"stage{stage}_block{block}_{size + 2}to{size}"


def _identity(size: int) -> Tensor:
    """The identity matrix (size, size)."""
    matrix = torch.zeros(size, size)  # on the device "meta", torch.eye imports the compiler, which takes a second
    matrix.diagonal().fill_(1.0)
    return matrix
