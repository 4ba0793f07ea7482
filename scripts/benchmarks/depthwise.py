"""Speed-up of the strip-wise weight gradient of large depthwise kernels on a CPU.

Times the weight gradients of typical layers of the nano space, and a whole forward and backward pass of its largest
network, with PyTorch's own gradient and with the strips, alternately in one process. Prints one JSON object; run as
``python -m scripts.benchmarks.depthwise``.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import nn

from scripts.benchmarks.timing import spread
from supernet.cli.console import STDERR, run_command
from supernet.compute.machine import machine, versions
from supernet.depthwise import DepthwiseConv2d, weight_gradient
from supernet.litepose import LitePose
from supernet.space import SearchSpace

LAYERS = ((384, 9, 7, 1), (576, 9, 7, 1), (192, 18, 7, 1), (192, 36, 7, 2), (64, 36, 5, 1), (48, 72, 5, 1))
"""Channels, side of the input, kernel size and stride."""


def _alternately(first: Callable[[], object], second: Callable[[], object], repeats: int) -> dict[str, object]:
    """Return wall-clock milliseconds of both and their ratio."""
    ways: list[tuple[Callable[[], object], list[float]]] = [(first, []), (second, [])]
    for repeat in range(repeats + 2):
        for way, milliseconds in ways:
            start = time.perf_counter()
            way()
            if repeat >= 2:
                milliseconds.append(1e3 * (time.perf_counter() - start))
    plain, strips = (milliseconds for _, milliseconds in ways)
    ratio = statistics.median(plain) / statistics.median(strips)
    return {"plain_ms": spread(plain), "strips_ms": spread(strips), "plain_over_strips": round(ratio, 2)}


def _layer(batch: int, channels: int, side: int, kernel_size: int, stride: int, repeats: int) -> dict[str, object]:
    x = torch.randn(batch, channels, side, side).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, 1, kernel_size, kernel_size)
    padding, out = kernel_size // 2, -(-side // stride)
    gradient = torch.randn(batch, channels, out, out).contiguous(memory_format=torch.channels_last)

    def plain() -> object:
        mask = [False, True, False]
        return torch.ops.aten.convolution_backward(
            gradient, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], channels, mask
        )

    def strips() -> object:
        return weight_gradient(x, gradient, kernel_size, stride)

    shape = {"input": list(x.shape), "kernel_size": kernel_size, "stride": stride}
    return shape | _alternately(plain, strips, repeats)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=144, help="side of the network's input, px")
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = LitePose(SearchSpace.load("nano").largest(), 17).train()
    images = torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)

    def strips() -> None:
        low, high = network(images)
        (low.square().mean() + high.square().mean()).backward()
        network.zero_grad()

    def plain() -> None:
        with patch.object(DepthwiseConv2d, "forward", nn.Conv2d.forward):
            strips()

    report = {
        "machine": machine(),
        "versions": versions(),
        "workload": vars(options),
        "weight_gradients": [_layer(options.batch, *layer, options.repeats) for layer in LAYERS],
        "forward_and_backward_of_the_largest_nano_network": _alternately(plain, strips, options.repeats),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    run_command(main, STDERR)
