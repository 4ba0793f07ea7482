"""Calibrated statistics are those of each layer's own inputs, and a subnet is useless without them."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet.evaluation.calibration import calibrate
from supernet.litepose import LitePose, normalisation_layers
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet


def batches(sizes: Sequence[int], side: int = 64) -> list[Tensor]:
    """Float64 images in batches of the given sizes, each batch with another brightness and contrast."""
    generator = torch.Generator().manual_seed(0)
    return [
        (0.5 + i) * torch.randn(size, 3, side, side, generator=generator, dtype=torch.float64) + 0.3 * i
        for i, size in enumerate(sizes)
    ]


def subnet(seed: int) -> LitePose:
    """A random subnet of the nano space, float64."""
    torch.manual_seed(seed)
    supernet = SuperNet(SearchSpace.load("nano"), 14).double()
    return supernet.extract(supernet.space.sample(np.random.default_rng(seed)))


def layer_inputs(network: LitePose, images: Sequence[Tensor]) -> list[Tensor]:
    """Inputs of each batch norm over all batches, (channels, values) each, while all normalise by the batch."""
    norms = normalisation_layers(network)
    seen: list[list[Tensor]] = [[] for _ in norms]

    def watch(i: int) -> None:
        def hook(_: nn.Module, inputs: tuple[Tensor], __: Tensor) -> None:
            seen[i].append(inputs[0].transpose(0, 1).flatten(1))

        norms[i].register_forward_hook(hook)

    for i in range(len(norms)):
        watch(i)
    network.train()
    with torch.no_grad():
        for batch in images:
            network(batch)
    return [torch.cat(parts, dim=1) for parts in seen]


@pytest.mark.parametrize("sizes", [(4,), (1, 5, 2), (3, 3, 1)])
def test_statistics_are_the_plain_mean_and_variance_of_each_layers_inputs(sizes: tuple[int, ...]) -> None:
    network, images = subnet(1), batches(sizes)
    calibrate(network, images)
    for norm, inputs in zip(normalisation_layers(network), layer_inputs(subnet(1), images), strict=True):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert inputs.shape[1] > 1
        torch.testing.assert_close(norm.running_mean, inputs.mean(dim=1), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(norm.running_var, inputs.var(dim=1, correction=0), rtol=1e-9, atol=1e-12)


def test_batches_are_weighted_by_their_images() -> None:
    """An average of per-batch variances would be wrong here: most of the variance lies between the batches."""
    norm = nn.BatchNorm2d(1).double()
    values = [torch.full((3, 1, 2, 2), 1.0).double(), torch.full((1, 1, 2, 2), 5.0).double()]
    calibrate(nn.Sequential(norm), values)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.running_mean.item() == pytest.approx((3 * 1 + 1 * 5) / 4)
    assert norm.running_var.item() == pytest.approx((3 * 1 + 1 * 25) / 4 - 2**2)


def test_one_batch_gives_the_outputs_of_batch_statistics() -> None:
    network, (images,) = subnet(2), batches((4,))
    calibrate(network, [images])
    with torch.no_grad():
        calibrated = network(images)
        by_batch = network.train()(images)
    for actual, expected in zip(calibrated, by_batch, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)


def test_only_statistics_change_and_old_ones_do_not_matter() -> None:
    first, second = subnet(3), subnet(3)
    for norm in normalisation_layers(second):
        assert norm.running_mean is not None
        norm.running_mean.fill_(7.0)
    before = {name: value.clone() for name, value in first.named_parameters()}
    for network in (first, second):
        calibrate(network, batches((2, 3)))
        assert not network.training
        assert {norm.momentum for norm in normalisation_layers(network)} == {0.1}
        assert not any(norm._forward_pre_hooks for norm in normalisation_layers(network))
    assert all(torch.equal(value, before[name]) for name, value in first.named_parameters())
    for norm, other in zip(normalisation_layers(first), normalisation_layers(second), strict=True):
        assert norm.running_mean is not None
        assert other.running_mean is not None
        assert torch.equal(norm.running_mean, other.running_mean)


def test_calibration_on_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        calibrate(subnet(4), [])


def trained_supernet() -> tuple[SuperNet, list[Tensor], Tensor]:
    """A nano supernet trained to find bright blobs, its training images in batches, and other images.

    A simple task in place of pose: every heatmap is the image's smoothed brightness.
    """
    torch.manual_seed(0)
    space = SearchSpace.load("nano")
    supernet = SuperNet(space, 1).train()
    generator = torch.Generator().manual_seed(1)
    blobs = torch.nn.functional.interpolate(torch.rand(40, 1, 4, 4, generator=generator), size=64, mode="bilinear")
    blobs = 4 * blobs.expand(-1, 3, -1, -1) - 1
    training, other = [blobs[i : i + 8] for i in range(0, 32, 8)], blobs[32:]
    optimizer = torch.optim.Adam(supernet.parameters(), lr=5e-3)
    rng = np.random.default_rng(0)
    for step in range(30):
        images = training[step % 4]
        for arch in (space.largest(), space.sample(rng)):
            error(supernet(images, arch), images).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return supernet, training, other


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
