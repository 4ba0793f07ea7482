"""Computes the batch-norm statistics of one subnet from calibration images.

The shared weights of a supernet are trained without recorded statistics, so a subnet needs this before it can be used.

Statistics are computed layer by layer: those of a layer come from all images, and normalise all images before they
reach the next layer, as the calibrated network will do. So no batch of a few images, or of a single one of rare size,
is normalised by itself. On a CPU each part of the images passes from one batch norm to the next at once, while its maps
are in the cache: it is normalised in place, activated and convolved, and the result is added up. Threads share the
parts. What follows the last batch norms is not computed.

Source: BigNAS (arXiv 2003.11142), section 3.5 (batch-norm calibration); there, batches are normalised by themselves,
and their statistics are combined by a moving average.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from supernet.arch import HEAD
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.evaluation.fused_convolution import convolved
from supernet.litepose import InvertedBottleneck, LitePose, SeparablePrediction, normalisation_layers
from supernet.pose.geometry import normalise

GROUP_PIXELS = 2**23
"""Pixels of images whose maps are in memory at the same time: 128 images of 256 px, 32 of 512 px. More images are
calibrated in groups, whose statistics are combined. Fixed, so that statistics do not depend on the machine."""
PART_PIXELS = 2**19
"""Pixels of the images of a part at most, unless one image has more."""
PART_IMAGES = 4
"""Images of a part at most."""

_SIDE_BY_SIDE = 4
"""Pixels whose channels are summed up together."""


def calibrate(
    network: LitePose,
    batches: Sequence[Tensor],
    processes: Processes = SINGLE_PROCESS,
    num_threads: int | None = None,
) -> None:
    """Set the running mean and (population) variance of every batch norm of ``network`` in place.

    Images of up to ``GROUP_PIXELS`` give each layer the statistics of its own inputs in the calibrated network. Of more
    images, each group gives its own, and the result is their mean and variance over all pixels of all groups.

    Args:
        network: On the device to compute on. It ends in evaluation mode.
        batches: Images, (B, 3, H, W) uint8 each, RGB; batches may differ in all of B, H and W.
        processes: Processes that calibrate the same network with the same images and share the work.
        num_threads: CPU threads that share the parts; by default as many as PyTorch uses.

    Raises:
        ValueError: There is no image.
    """
    groups = _groups(batches)
    if not groups:
        raise ValueError("calibration needs at least one image; got none")
    on_cpu = next(network.parameters()).device.type == "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # each part is computed on one thread; new threads take this number
    try:
        with ThreadPoolExecutor((num_threads or threads) if on_cpu else 1) as pool, torch.inference_mode():
            run = _Run(network, processes, pool)
            for group in groups:
                parts = [part for images in group for part in (_split(images) if on_cpu else [images])]
                run.group(parts[processes.index :: processes.count])
    finally:
        torch.set_num_threads(threads)
    with torch.no_grad():
        run.store(len(groups))
    network.eval()


def _groups(batches: Sequence[Tensor]) -> list[list[Tensor]]:
    """Deal the images of all batches to as few groups as hold ``GROUP_PIXELS`` each, or a single image."""
    num_images = sum(map(len, batches))
    pixels = sum(images.shape[0] * images.shape[2] * images.shape[3] for images in batches)
    count = min(num_images, -(-pixels // GROUP_PIXELS))
    groups: list[list[Tensor]] = [[] for _ in range(count)]
    dealt = 0
    for images in batches:
        for number, group in enumerate(groups):
            if len(own := images[(number - dealt) % count :: count]):
                group.append(own)
        dealt += len(images)
    return groups


class _Part:
    """Maps (B', C, H, W) of some images of one size, computed when they are needed.

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
"""Those of one group that this process computes, in order; there may be none."""


class _Run:
    """Forward passes of one network that normalise by the statistics of a group of images, and add these up."""

    def __init__(self, network: LitePose, processes: Processes, pool: ThreadPoolExecutor) -> None:
        self._network, self._processes, self._pool = network, processes, pool
        self._totals = {norm: torch.zeros(()) for norm in normalisation_layers(network)}

    def group(self, images: Sequence[Tensor]) -> None:
        """Run the images of one group; as ``LitePose.forward``, without what no batch norm needs."""
        network = self._network
        parts = [_Part(partial(_prepared, next(network.parameters()), part)) for part in images]
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

    def store(self, num_groups: int) -> None:
        """Give the batch norms the statistics of all groups."""
        for norm, totals in self._totals.items():
            mean, variance = _mean_and_variance(totals)
            running_mean, running_var, tracked = norm.running_mean, norm.running_var, norm.num_batches_tracked
            assert running_mean is not None
            assert running_var is not None
            assert tracked is not None
            running_mean.copy_(mean)
            running_var.copy_(variance)
            tracked += num_groups

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
        """Add up the statistics of ``parts``, and have them normalised by those of their group."""
        mean, variance = _mean_and_variance(self._add(norm, parts))
        gain = norm.weight.cpu().double() / torch.sqrt(variance + norm.eps)
        shift = norm.bias.cpu().double() - mean * gain
        affine = partial(_transform, gain.to(norm.weight), shift.to(norm.weight))
        for part in parts:
            part.change(affine)

    def _add(self, norm: nn.BatchNorm2d, parts: Parts) -> Tensor:
        """Add up the statistics of ``parts``; return those of their group, of all processes."""
        sums = sum(self._pool.map(_sums, parts), torch.zeros(1 + 2 * norm.num_features, dtype=torch.float64))
        sums = self._processes.total(sums)
        self._totals[norm] = self._totals[norm] + sums
        return sums


def _split(images: Tensor) -> Sequence[Tensor]:
    """Parts of nearly equal size; an even number of them if the images suffice, because two cores share these best."""
    count, most = len(images), max(1, min(PART_IMAGES, PART_PIXELS // (images.shape[2] * images.shape[3])))
    number = -(-count // most)
    return torch.tensor_split(images, min(count, number + number % 2))


def _prepared(weight: Tensor, images: Tensor) -> Tensor:
    """Return images normalised, on the device and of the type of ``weight``, in the order that runs fastest."""
    return normalise(images.to(weight.device)).to(weight.dtype, memory_format=torch.channels_last)


def _convolved(layer: nn.Conv2d, part: _Part) -> Tensor:
    return convolved(layer, part.maps())


def _sum_of_both(layers: tuple[nn.Module, nn.Module], parts: tuple[_Part, _Part]) -> Tensor:
    """The sum of what two layers make of two maps."""
    total: Tensor = layers[0](parts[0].maps())
    return total.add_(layers[1](parts[1].maps()))


def _add_maps(source: _Part, maps: Tensor) -> None:
    maps.add_(source.maps())


def _transform(gain: Tensor, shift: Tensor, maps: Tensor) -> None:
    """Multiply the channels by ``gain`` and add ``shift``, in place."""
    torch.addcmul(shift.view(1, -1, 1, 1), maps, gain.view(1, -1, 1, 1), out=maps)


def _sums(part: _Part) -> Tensor:
    """Return, in float64 on the CPU, the number of pixels, the sums of C channels and the sums of their squares."""
    with torch.inference_mode():  # the mode of a thread, not of the process
        maps = part.maps()
        images, channels, height, width = maps.shape
        count = torch.tensor([images * height * width], dtype=torch.float64)
        if maps.device.type != "cpu":
            variance, mean = (values.cpu().double() for values in torch.var_mean(maps, dim=(0, 2, 3), correction=0))
            return torch.cat([count, count * mean, count * (variance + mean**2)])
    side_by_side = _SIDE_BY_SIDE if width % _SIDE_BY_SIDE == 0 else 1
    shape = (images * height, width // side_by_side, side_by_side * channels)
    # Row by row, NumPy sums up several pixels at once and needs no map of squares.
    rows = maps.permute(0, 2, 3, 1).reshape(shape).numpy()
    values, squares = (
        torch.from_numpy(of_rows.sum(axis=0, dtype=np.float64)).view(side_by_side, channels).sum(dim=0)
        for of_rows in (rows.sum(axis=1), np.einsum("ijk,ijk->ik", rows, rows))
    )
    return torch.cat([count, values, squares])


def _mean_and_variance(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and population variance (C,) from what ``_sums`` returns."""
    values, squares = sums[1:].view(2, -1) / sums[0]
    return values, (squares - values**2).clamp_min(0)
