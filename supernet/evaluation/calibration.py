"""Computes the batch-norm statistics of one subnet, from sums and sums of squares over a calibration set.

The shared weights of a supernet are trained without recorded statistics, so a subnet needs this before it can be used.
Source: BigNAS (arXiv 2003.11142), section 3.5 (batch-norm calibration); we combine batches exactly instead of by a
moving average.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.litepose import normalisation_layers


@torch.no_grad()
def calibrate(network: nn.Module, batches: Iterable[Tensor], processes: Processes = SINGLE_PROCESS) -> None:
    """Set the running mean and (population) variance of every batch norm of ``network`` in place.

    Each layer's statistics are those of its own inputs over all pixels of all batches, while earlier layers
    normalise by the current batch, as in training. Batches may differ in size. The network ends in evaluation mode.

    Args:
        network: Any network with ``BatchNorm2d`` layers.
        batches: Normalised images, (B, 3, H, W) each.
        processes: Processes that calibrate the same network, each with its own batches (or none); all get the
            statistics of all batches.

    Raises:
        ValueError: ``batches`` is empty.
    """
    norms = normalisation_layers(network)
    sums = LayerSums(norms)
    sizes, num_batches = [0] * len(norms), 0

    def remember_size(i: int) -> "torch.utils.hooks.RemovableHandle":
        def hook(_: nn.Module, inputs: tuple[Tensor]) -> None:
            sizes[i] = inputs[0].numel() // inputs[0].shape[1]

        return norms[i].register_forward_pre_hook(hook)

    momenta = [norm.momentum for norm in norms]
    handles = [remember_size(i) for i in range(len(norms))]
    network.train()
    try:
        for norm in norms:
            norm.momentum = 1.0  # the running statistics then hold exactly the last batch's
        for images in batches:
            network(images)
            num_batches += 1
            for i, norm in enumerate(norms):
                mean, unbiased = _statistics(norm)
                variance = unbiased * (sizes[i] - 1) / sizes[i]
                sums.add(i, sizes[i], sizes[i] * mean, sizes[i] * (variance + mean**2))
    finally:
        for norm, momentum, handle in zip(norms, momenta, handles, strict=True):
            norm.momentum = momentum
            handle.remove()
        network.eval()
    sums.store(num_batches, processes)


class LayerSums:
    """Sums over a calibration set, in float64, from which the statistics of batch norms follow.

    Args:
        norms: The batch norms.
    """

    def __init__(self, norms: Sequence[nn.BatchNorm2d]) -> None:
        self._norms = norms
        self._counts = torch.zeros(len(norms), dtype=torch.float64)
        self._sums = [torch.zeros(norm.num_features, dtype=torch.float64) for norm in norms]
        self._squares = [torch.zeros(norm.num_features, dtype=torch.float64) for norm in norms]

    def add(self, number: int, count: int, values: Tensor, squares: Tensor) -> None:
        """Add a batch's inputs of the batch norm of this ``number``.

        Args:
            number: Of the norm, from 0.
            count: Inputs per channel.
            values: Their sums (C,).
            squares: The sums of their squares (C,).
        """
        self._counts[number] += count
        self._sums[number] += values
        self._squares[number] += squares

    def store(self, num_batches: int, processes: Processes) -> None:
        """Set the statistics of the norms from the sums of all ``processes``, of which this one ran ``num_batches``.

        Raises:
            ValueError: There was no batch.
        """
        norms = self._norms
        joint = processes.total(torch.cat([torch.tensor([num_batches]), self._counts, *self._sums, *self._squares]))
        sizes = [1, len(norms), *2 * [norm.num_features for norm in norms]]
        joint_batches, counts, *parts = torch.split(joint, sizes)
        sums, squares = parts[: len(norms)], parts[len(norms) :]
        if not counts.all():
            raise ValueError("calibration needs at least one batch of images; got none")
        for i, norm in enumerate(norms):
            mean = sums[i] / counts[i]
            running_mean, running_var, tracked = norm.running_mean, norm.running_var, norm.num_batches_tracked
            assert running_mean is not None
            assert running_var is not None
            assert tracked is not None
            tracked += int(joint_batches) - num_batches  # the batches of the other processes
            running_mean.copy_(mean)
            running_var.copy_((squares[i] / counts[i] - mean**2).clamp_min(0))


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.cpu().double(), norm.running_var.cpu().double()  # not every device has float64
