"""Calibration of a LitePose on a CPU, layer by layer over parts of a batch.

The statistics are those of ``calibration.calibrate``, up to rounding. Whole batches of maps do not fit into a
processor's cache, and the system clears the memory of every one of them, which takes as long as the arithmetic. Here
each layer runs on a few images at a time, normalises them in place and is freed part by part; threads share the parts.
What follows the last batch norms is not computed.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from supernet.arch import HEAD
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.evaluation.calibration import LayerSums
from supernet.evaluation.fused_convolution import convolved
from supernet.litepose import InvertedBottleneck, LitePose, SeparablePrediction, normalisation_layers

PART_PIXELS = 2**18
"""Pixels of the images of a part at most, unless one image has more."""

Result = TypeVar("Result")
Parts = list[Tensor]
"""Maps (B', C, H, W) of the parts of one batch."""


def calibrate_by_layers(
    network: LitePose, batches: Iterable[Tensor], processes: Processes = SINGLE_PROCESS, num_threads: int | None = None
) -> None:
    """Set the running mean and variance of every batch norm in place, as :func:`calibration.calibrate` does.

    Args:
        network: On the CPU. It ends in evaluation mode.
        batches: Normalised images, (B, 3, H, W) each.
        processes: See ``calibrate``.
        num_threads: Threads that share the parts; by default as many as PyTorch uses.

    Raises:
        ValueError: ``batches`` is empty.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # each part is computed on one thread; new threads take this number
    try:
        with ThreadPoolExecutor(num_threads or threads) as pool, torch.inference_mode():
            run = _Run(network, pool)
            num_batches = 0
            for images in batches:
                run.batch(images)
                num_batches += 1
        with torch.no_grad():
            for norm in run.norms:
                assert norm.num_batches_tracked is not None
                norm.num_batches_tracked += num_batches
            run.sums.store(num_batches, processes)
    finally:
        torch.set_num_threads(threads)
    network.eval()


class _Run:
    """Forward passes of one network that normalise by the current batch and add up its statistics."""

    def __init__(self, network: LitePose, pool: ThreadPoolExecutor) -> None:
        self.network, self._pool = network, pool
        self.norms = normalisation_layers(network)
        self.sums = LayerSums(self.norms)
        self._numbers = {norm: number for number, norm in enumerate(self.norms)}

    def batch(self, images: Tensor) -> None:
        """Run one batch; as ``LitePose.forward``, without what no batch norm needs."""
        network = self.network
        assert isinstance(network.first, nn.Sequential)
        features = [self._sequence(network.first, list(torch.split(images, _part_size(images))))]
        for stage in network.stage:
            assert isinstance(stage, nn.Sequential)
            features.append(self._sequence(stage, features[-1]))
        x = features[-1]
        for i, level in enumerate(HEAD):
            raw = self._each(network.deconv_raw[i], features[level.skip])
            x = self._each(_added, self._each(network.deconv_refined[i], x), raw)
            norm_relu = network.deconv_bnrelu[i]
            assert isinstance(norm_relu, nn.Sequential)
            x = self._sequence(norm_relu, x)
            if (last := level.prediction) is not None:
                self._prediction(network.final_refined[last.index], x)
                self._prediction(network.final_raw[last.index], features[last.skip])

    def _sequence(self, layers: nn.Sequential, parts: Parts) -> Parts:
        """Run layers one after the other. Only what a layer returned is changed in place, never the ``parts`` given."""
        for layer in layers:
            if isinstance(layer, nn.Sequential):
                parts = self._sequence(layer, parts)
            elif isinstance(layer, InvertedBottleneck):
                hidden = self._sequence(layer.depth_conv, self._sequence(layer.inv, parts))
                out = self._sequence(layer.point_conv, hidden)
                parts = self._each(_added, out, parts) if layer.residual else out
            elif isinstance(layer, nn.BatchNorm2d):
                self._normalise(layer, parts)
            elif isinstance(layer, nn.Conv2d):
                parts = self._each(partial(convolved, layer), parts)
            else:
                parts = self._each(layer, parts)
        return parts

    def _prediction(self, prediction: nn.Module, parts: Parts) -> None:
        """Add up the statistics of a prediction's only batch norm."""
        assert isinstance(prediction, SeparablePrediction)
        depthwise, norm = prediction.conv[0], prediction.conv[1]
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(depthwise, nn.Conv2d)
        self._add(norm, self._each(lambda part: _sums(convolved(depthwise, part)), parts))

    def _normalise(self, norm: nn.BatchNorm2d, parts: Parts) -> None:
        """Add up the statistics of ``parts``, and normalise them by these in place."""
        count, sums, squares = self._add(norm, self._each(_sums, parts))
        mean = sums / count
        gain = norm.weight.double() / torch.sqrt((squares / count - mean**2).clamp_min(0) + norm.eps)
        shift = norm.bias.double() - mean * gain
        affine = partial(_transform, gain.to(norm.weight.dtype), shift.to(norm.weight.dtype))
        self._each(affine, parts)

    def _add(self, norm: nn.BatchNorm2d, sums: Sequence[tuple[int, Tensor, Tensor]]) -> tuple[int, Tensor, Tensor]:
        count = sum(size for size, _, _ in sums)
        values = torch.stack([value for _, value, _ in sums]).sum(dim=0)
        squares = torch.stack([square for _, _, square in sums]).sum(dim=0)
        self.sums.add(self._numbers[norm], count, values, squares)
        return count, values, squares

    def _each(self, function: Callable[..., Result], *parts: Sequence[Tensor]) -> list[Result]:
        """Call ``function`` with every part, or with the parts of the same images, in threads."""
        return list(self._pool.map(partial(_without_gradient, function), *parts))


def _part_size(images: Tensor) -> int:
    return max(1, min(4, PART_PIXELS // (images.shape[2] * images.shape[3])))


def _without_gradient(function: Callable[..., Result], *parts: Tensor) -> Result:
    with torch.inference_mode():  # the mode of a thread, not of the process
        return function(*parts)


def _sums(part: Tensor) -> tuple[int, Tensor, Tensor]:
    """Number of pixels, and in float64 the sums (C,) of the values and of their squares."""
    pixels = part.permute(0, 2, 3, 1).reshape(-1, part.shape[1])
    return len(pixels), pixels.sum(dim=0).double(), pixels.square().sum(dim=0).double()


def _transform(gain: Tensor, shift: Tensor, part: Tensor) -> None:
    """Multiply the channels by ``gain`` and add ``shift``, in place."""
    torch.addcmul(shift.view(1, -1, 1, 1), part, gain.view(1, -1, 1, 1), out=part)


def _added(first: Tensor, second: Tensor) -> Tensor:
    return first.add_(second)
