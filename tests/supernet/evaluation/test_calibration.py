"""Calibrated statistics are those of each layer's own inputs, and a subnet is useless without them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet.compute.distributed import Processes
from supernet.evaluation import calibration
from supernet.evaluation.calibration import calibrate
from supernet.litepose import LitePose, normalisation_layers
from supernet.pose.geometry import normalise
from supernet.weight_sharing import SuperNet
from tests.helpers.searches import SPACE


def batches(*sizes: int) -> list[Tensor]:
    """Random images in batches of the given numbers, each of another brightness, contrast and, in turns, width."""
    generator = torch.Generator().manual_seed(0)
    return [
        (40 * i + (20 + 40 * i) * torch.rand(size, 3, 64, 64 + 32 * (i % 2), generator=generator)).to(torch.uint8)
        for i, size in enumerate(sizes)
    ]


def subnet(seed: int) -> LitePose:
    """A random subnet of a tiny space, float64."""
    torch.manual_seed(seed)
    supernet = SuperNet(SPACE, 14).double()
    return supernet.extract(supernet.space.sample(np.random.default_rng(seed)))


def layer_inputs(network: LitePose, images: Sequence[Tensor]) -> list[Tensor]:
    """Inputs of each batch norm of a calibrated network over all batches, (channels, values) each."""
    norms = normalisation_layers(network)
    seen: list[list[Tensor]] = [[] for _ in norms]

    def watch(i: int) -> None:
        def hook(_: nn.Module, inputs: tuple[Tensor], __: Tensor) -> None:
            seen[i].append(inputs[0].transpose(0, 1).flatten(1))

        norms[i].register_forward_hook(hook)

    for i in range(len(norms)):
        watch(i)
    with torch.no_grad():
        for batch in images:
            network(normalise(batch).double())
    return [torch.cat(parts, dim=1) for parts in seen]


def statistics(network: LitePose) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance of all batch norms."""
    values = []
    for norm in normalisation_layers(network):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        values.append((norm.running_mean, norm.running_var))
    return values


def assert_equal_statistics(actual: LitePose, expected: Sequence[tuple[Tensor, Tensor]]) -> None:
    for first, second in zip(statistics(actual), expected, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(4,), (1, 5, 2), (3, 11, 1)])
def test_statistics_are_the_plain_mean_and_variance_of_each_layers_inputs(seed: int, sizes: tuple[int, ...]) -> None:
    """Of its inputs in the calibrated network; as every layer depends on those before it only, no others are."""
    network, images = subnet(seed), batches(*sizes)
    calibrate(network, images)
    assert not network.training
    inputs = layer_inputs(network, images)
    assert_equal_statistics(network, [(values.mean(dim=1), values.var(dim=1, correction=0)) for values in inputs])


def test_groups_of_images_are_combined(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = [batches(3, 2)[0][::2], batches(3, 2)[1][1:]], [batches(3, 2)[0][1:2], batches(3, 2)[1][:1]]
    each = []
    for images in (first, second):
        network = subnet(1)
        calibrate(network, images)
        each.append((sum(batch[:, 0].numel() for batch in images), statistics(network)))
    (first_count, first_statistics), (second_count, second_statistics) = each
    share = first_count / (first_count + second_count)
    expected = []
    for (mean, variance), (other, other_variance) in zip(first_statistics, second_statistics, strict=True):
        within = share * variance + (1 - share) * other_variance
        expected.append((share * mean + (1 - share) * other, within + share * (1 - share) * (mean - other) ** 2))
    monkeypatch.setattr(calibration, "GROUP_PIXELS", first_count)
    network = subnet(1)
    calibrate(network, batches(3, 2))
    assert_equal_statistics(network, expected)


@pytest.mark.parametrize("pixels", [1, 64 * 64, 3 * 64 * 64, 2**23])
def test_groups_hold_every_image_once_and_hardly_more_pixels_than_allowed(
    pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "GROUP_PIXELS", pixels)
    images = batches(5, 1, 1, 7, 1)
    groups = calibration._groups(images)
    dealt = sorted(tuple(image.flatten().tolist()) for group in groups for batch in group for image in batch)
    assert dealt == sorted(tuple(image.flatten().tolist()) for batch in images for image in batch)
    numbers = [sum(map(len, group)) for group in groups]
    assert max(numbers) - min(numbers) <= 1
    assert max(sum(batch[:, 0].numel() for batch in group) for group in groups) <= pixels + 96 * 64


def test_the_number_of_threads_changes_no_bit() -> None:
    by_threads = []
    for num_threads in (1, 2, 3):
        network = subnet(1)
        calibrate(network, batches(7, 2), num_threads=num_threads)
        by_threads.append(statistics(network))
    for other in by_threads[1:]:
        for first, second in zip(by_threads[0], other, strict=True):
            assert all(map(torch.equal, first, second))


@dataclass(frozen=True, kw_only=True)
class Together(Processes):
    """One of two processes, played by threads, that add up their tensors."""

    tensors: list[Tensor]
    barrier: Barrier

    def total(self, tensor: Tensor) -> Tensor:
        self.tensors[self.index] = tensor
        self.barrier.wait()
        total = self.tensors[0] + self.tensors[1]
        self.barrier.wait()
        return total


def test_processes_share_the_images_of_a_group() -> None:
    expected, networks = subnet(2), [subnet(2), subnet(2)]
    calibrate(expected, batches(5, 2, 3))
    tensors, barrier = [torch.zeros(0)] * 2, Barrier(2, timeout=60)
    processes = [Together(index=index, count=2, tensors=tensors, barrier=barrier) for index in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda network, own: calibrate(network, batches(5, 2, 3), own), networks, processes))
    for network in networks:
        assert_equal_statistics(network, statistics(expected))


@dataclass(frozen=True)
class Idle(Processes):
    """Two processes, of which this one gets no image of a single one: the other has these sums."""

    index: int = 1
    count: int = 2

    def total(self, tensor: Tensor) -> Tensor:
        assert not tensor.any()
        return tensor + 1


def test_a_process_may_have_no_image() -> None:
    network = subnet(2)
    calibrate(network, batches(1), Idle())
    for mean, variance in statistics(network):
        assert torch.equal(mean, torch.ones_like(mean))
        assert torch.equal(variance, torch.zeros_like(variance))


def test_only_statistics_change_and_old_ones_do_not_matter() -> None:
    first, second = subnet(3), subnet(3)
    for mean, _ in statistics(second):
        mean.fill_(7.0)
    before = {name: value.clone() for name, value in first.named_parameters()}
    for network in (first, second):
        calibrate(network, batches(2, 3))
        assert {norm.momentum for norm in normalisation_layers(network)} == {0.1}
    assert all(torch.equal(value, before[name]) for name, value in first.named_parameters())
    for own, other in zip(statistics(first), statistics(second), strict=True):
        assert all(map(torch.equal, own, other))


def test_calibration_on_nothing_is_refused_and_leaves_the_threads() -> None:
    threads = torch.get_num_threads()
    with pytest.raises(ValueError, match="at least one image"):
        calibrate(subnet(4), [])
    assert torch.get_num_threads() == threads


def trained_supernet() -> tuple[SuperNet, list[Tensor], Tensor]:
    """A tiny supernet trained to find bright blobs, its training images in batches, and other images.

    A simple task in place of pose: every heatmap is the image's smoothed brightness.
    """
    torch.manual_seed(0)
    supernet = SuperNet(SPACE, 1).train()
    generator = torch.Generator().manual_seed(1)
    blobs = torch.nn.functional.interpolate(torch.rand(40, 1, 4, 4, generator=generator), size=64, mode="bilinear")
    blobs = (255 * blobs.expand(-1, 3, -1, -1)).to(torch.uint8)
    training, other = [blobs[i : i + 8] for i in range(0, 32, 8)], blobs[32:]
    optimizer = torch.optim.Adam(supernet.parameters(), lr=5e-3)
    rng = np.random.default_rng(0)
    for step in range(30):
        images = normalise(training[step % 4])
        for arch in (SPACE.largest(), SPACE.sample(rng)):
            error(supernet(images, arch), images).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return supernet, training, normalise(other)


def error(outputs: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
    """Mean squared distance of the first channel of both outputs to the brightness at their size."""
    brightness = images.mean(dim=1, keepdim=True)
    low, high = (torch.nn.functional.avg_pool2d(brightness, stride) for stride in (4, 2))
    return (outputs[0][:, :1] - low).square().mean() + (outputs[1] - high).square().mean()


def test_calibration_repairs_a_subnet_of_a_trained_supernet() -> None:
    supernet, training, other = trained_supernet()
    largest = supernet.extract(supernet.space.largest())
    calibrate(largest, training)
    wanted, uncalibrated, borrowed, calibrated = torch.zeros(4)
    for seed in range(4):
        arch = supernet.space.sample(np.random.default_rng((1, seed)))
        with torch.no_grad():
            # The weights were trained with batch norm on the images themselves.
            wanted += error(supernet(other, arch), other)
            network = supernet.extract(arch)
            uncalibrated += error(network(other), other)
            # Statistics of the largest network, sliced like weights, do not help either.
            shared = {name: value for name, value in largest.state_dict().items() if ".running_" in name}
            own = network.state_dict()
            cut = {name: shared[name][: len(own[name])] if name in shared else value for name, value in own.items()}
            network.load_state_dict(cut)
            borrowed += error(network(other), other)
            calibrate(network, training)
            calibrated += error(network(other), other)
    assert calibrated < 1.2 * wanted
    assert uncalibrated > 3 * calibrated
    assert borrowed > 1.3 * calibrated
