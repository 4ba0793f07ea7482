"""Calibration of a LitePose on a CPU, layer by layer over parts of a batch.

The statistics are those of ``calibration.calibrate``, up to rounding. Whole batches of maps do not fit into a
processor's cache, and the system clears the memory of every one of them, which takes as long as the arithmetic. Here
each part of a batch passes from one batch norm to the next at once, while its maps are in the cache: it is normalised
in place, activated and convolved, and the result is added up. Threads share the parts. What follows the last batch
norms is not computed.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from supernet.arch import HEAD
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.evaluation.calibration import LayerSums
from supernet.evaluation.fused_convolution import convolved
from supernet.litepose import InvertedBottleneck, LitePose, SeparablePrediction, normalisation_layers

PART_PIXELS = 2**19
"""Pixels of the images of a part at most, unless one image has more."""
PART_IMAGES = 4
"""Images of a part at most."""

_SIDE_BY_SIDE = 4
"""Pixels whose channels are summed up together."""


class _Part:
    """Maps (B', C, H, W) of one part of a batch, computed when they are needed.

    Args:
        compute: Returns the maps, which nothing else changes.
    """

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        self._compute: Callable[[], Tensor] | None = compute
        self._maps: Tensor | None = None
        self._changes: list[Callable[[Tensor], object]] = []

    def change(self, function: Callable[[Tensor], object]) -> None:
        """Let ``function`` change the maps in place before they are used again."""
        self._changes.append(function)

    def maps(self) -> Tensor:
        """Return the maps, changed as far as asked for."""
        if self._compute is not None:
            self._maps, self._compute = self._compute(), None  # frees what the maps were computed from
        assert self._maps is not None
        for function in self._changes:
            function(self._maps)
        self._changes.clear()
        return self._maps


Parts = list[_Part]
"""Those of one batch, in order."""


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
        parts = [_Part(partial(_same, part)) for part in _split(images)]
        assert isinstance(network.first, nn.Sequential)
        features = [self._sequence(network.first, parts)]
        for stage in network.stage:
            assert isinstance(stage, nn.Sequential)
            features.append(self._sequence(stage, features[-1]))
        x = features[-1]
        for i, level in enumerate(HEAD):
            sources = zip(x, features[level.skip], strict=True)
            layers = network.deconv_refined[i], network.deconv_raw[i]
            x = [_Part(partial(_sum_of_both, layers, pair)) for pair in sources]
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
                if layer.residual:
                    for part, source in zip(out, parts, strict=True):
                        part.change(partial(_add_maps, source))
                parts = out
            elif isinstance(layer, nn.BatchNorm2d):
                self._normalise(layer, parts)
            elif isinstance(layer, nn.Conv2d):
                parts = [_Part(partial(_convolved, layer, part)) for part in parts]
            else:
                assert isinstance(layer, nn.ReLU | nn.ReLU6), layer
                assert layer.inplace
                for part in parts:
                    part.change(layer)
        return parts

    def _prediction(self, prediction: nn.Module, parts: Parts) -> None:
        """Add up the statistics of a prediction's only batch norm."""
        assert isinstance(prediction, SeparablePrediction)
        depthwise, norm = prediction.conv[0], prediction.conv[1]
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(depthwise, nn.Conv2d)
        self._add(norm, [_Part(partial(_convolved, depthwise, part)) for part in parts])

    def _normalise(self, norm: nn.BatchNorm2d, parts: Parts) -> None:
        """Add up the statistics of ``parts``, and have them normalised by these."""
        count, sums, squares = self._add(norm, parts)
        mean = sums / count
        gain = norm.weight.double() / torch.sqrt((squares / count - mean**2).clamp_min(0) + norm.eps)
        shift = norm.bias.double() - mean * gain
        affine = partial(_transform, gain.to(norm.weight.dtype), shift.to(norm.weight.dtype))
        for part in parts:
            part.change(affine)

    def _add(self, norm: nn.BatchNorm2d, parts: Parts) -> tuple[int, Tensor, Tensor]:
        """Add up the statistics of ``parts``; return those of this batch."""
        sums = list(self._pool.map(_sums, parts))
        count = sum(size for size, _, _ in sums)
        values = torch.stack([value for _, value, _ in sums]).sum(dim=0)
        squares = torch.stack([square for _, _, square in sums]).sum(dim=0)
        self.sums.add(self._numbers[norm], count, values, squares)
        return count, values, squares


def _split(images: Tensor) -> Sequence[Tensor]:
    """Parts of nearly equal size; an even number of them if the images suffice, because two cores share these best."""
    count, most = len(images), max(1, min(PART_IMAGES, PART_PIXELS // (images.shape[2] * images.shape[3])))
    number = -(-count // most)
    return torch.tensor_split(images, min(count, number + number % 2))


def _same(maps: Tensor) -> Tensor:
    return maps


def _convolved(layer: nn.Conv2d, part: _Part) -> Tensor:
    return convolved(layer, part.maps())


def _sum_of_both(layers: tuple[nn.Module, nn.Module], parts: tuple[_Part, _Part]) -> Tensor:
    """The sum of what two layers make of two maps."""
    total: Tensor = layers[0](parts[0].maps())
    return total.add_(layers[1](parts[1].maps()))


def _add_maps(source: _Part, maps: Tensor) -> None:
    maps.add_(source.maps())


def _sums(part: _Part) -> tuple[int, Tensor, Tensor]:
    """Number of pixels, and in float64 the sums (C,) of the values and of their squares."""
    with torch.inference_mode():  # the mode of a thread, not of the process
        maps = part.maps()
    images, channels, height, width = maps.shape
    side_by_side = _SIDE_BY_SIDE if width % _SIDE_BY_SIDE == 0 else 1
    shape = (images * height, width // side_by_side, side_by_side * channels)
    # Row by row, NumPy sums up several pixels at once and needs no map of squares.
    rows = maps.permute(0, 2, 3, 1).reshape(shape).numpy()
    values, squares = (
        torch.from_numpy(of_rows.sum(axis=0, dtype=np.float64)).view(side_by_side, channels).sum(dim=0)
        for of_rows in (rows.sum(axis=1), np.einsum("ijk,ijk->ik", rows, rows))
    )
    return images * height * width, values, squares


def _transform(gain: Tensor, shift: Tensor, maps: Tensor) -> None:
    """Multiply the channels by ``gain`` and add ``shift``, in place."""
    torch.addcmul(shift.view(1, -1, 1, 1), maps, gain.view(1, -1, 1, 1), out=maps)
