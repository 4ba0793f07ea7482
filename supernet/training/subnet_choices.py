"""A subnet as a vector of numbers, so that a single recorded computation serves all subnets of a space.

:mod:`supernet.training.masked_subnets` gives all subnets the same shapes, but the host decides which kernels to shrink
and which masks to make. Here, both are decided by numbers on the device.
"""

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from supernet.arch import Arch
from supernet.training.masked_subnets import norm_masks, norm_names, times_masks
from supernet.weight_sharing import SuperNet


class SubnetChoices:
    """Translates archs into vectors, and computes the subnet of such a vector.

    Args:
        supernet: The weights.

    Attributes:
        count: Length of a vector: masks of batch norms, then for every smaller kernel size of every block 1 or 0.
    """

    def __init__(self, supernet: SuperNet) -> None:
        self._supernet, self._largest = supernet, supernet.space.largest()
        parameters = dict(supernet.network.named_parameters())
        self._num_masks = sum(parameters[name].numel() for name in norm_names(self._largest))
        self._kernels = [
            (stage, block, size)
            for stage, choices in enumerate(supernet.space.stages)
            for block in range(choices.depths[-1])
            for size in sorted(choices.kernel_sizes[:-1], reverse=True)
        ]
        self.count = self._num_masks + len(self._kernels)

    def of(self, arch: Arch) -> Tensor:
        """Return the vector (count,) float32 of ``arch``, on the CPU; ``masked_subnets.can_mask`` must be true of it.

        Raises:
            UserError: ``arch`` is outside the space.
        """
        self._supernet.space.check(arch)
        flags = [
            float(block < arch.stages[stage].depth and arch.stages[stage].kernel_sizes[block] == size)
            for stage, block, size in self._kernels
        ]
        return torch.cat([norm_masks(self._largest, arch), torch.tensor(flags)])

    def outputs(self, images: Tensor, choices: Tensor) -> tuple[Tensor, Tensor]:
        """Compute in training mode the subnet that ``choices`` (count,) on the weights' device stands for.

        Args:
            images: (B, 3, H, W), normalised.
            choices: As returned by :meth:`of`.

        Returns:
            As :func:`supernet.training.masked_subnets.masked_outputs` does.
        """
        supernet = self._supernet
        assert supernet.training
        weights: dict[str, Tensor] = dict(supernet.network.named_parameters())
        flags = (choices[self._num_masks :] > 0).unbind()
        smaller: dict[str, Tensor] = {}
        for (stage, block, size), flag in zip(self._kernels, flags, strict=True):
            name = f"stage.{stage}.{block}.depth_conv.0.weight"
            # A kernel shrinks from the next larger one: the sizes of a block follow each other, largest first.
            smaller[name] = supernet.shrink_kernel(smaller.get(name, weights[name]), stage, block, size)
            border = (self._largest.stages[stage].kernel_sizes[block] - size) // 2
            weights[name] = torch.where(flag, functional.pad(smaller[name], (border,) * 4), weights[name])
        weights |= times_masks(weights, self._largest, choices[: self._num_masks])
        template = supernet.templates(self._largest, training=True)
        outputs: tuple[Tensor, Tensor] = functional_call(template, weights, (images,))
        return outputs
