"""Calibration layer by layer gives the statistics of calibration by whole batches."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from supernet.compute.distributed import Processes
from supernet.evaluation.calibration import calibrate
from supernet.evaluation.layerwise_calibration import calibrate_by_layers
from supernet.litepose import LitePose, normalisation_layers
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet


def subnet(seed: int) -> LitePose:
    """A random subnet of the nano space, float64."""
    torch.manual_seed(seed)
    supernet = SuperNet(SearchSpace.load("nano"), 14).double()
    return supernet.extract(supernet.space.sample(np.random.default_rng(seed)))


def batches(*sizes: int) -> list[Tensor]:
    """Batches of the given sizes, each of another brightness and contrast."""
    generator = torch.Generator().manual_seed(0)
    return [
        (0.5 + i) * torch.randn(size, 3, 64, 64 + 32 * (i % 2), generator=generator, dtype=torch.float64) + 0.3 * i
        for i, size in enumerate(sizes)
    ]


def statistics(network: LitePose) -> list[Tensor]:
    """Means, variances and numbers of batches of all batch norms."""
    values = []
    for norm in normalisation_layers(network):
        for buffer in norm.buffers():
            values.append(buffer.double())
    return values


def assert_equal_statistics(actual: LitePose, expected: LitePose) -> None:
    for first, second in zip(statistics(actual), statistics(expected), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(4,), (1, 5, 2), (3, 3, 1)])
def test_statistics_are_those_of_whole_batches(seed: int, sizes: tuple[int, ...]) -> None:
    expected, actual = subnet(seed), subnet(seed)
    calibrate(expected, batches(*sizes))
    calibrate_by_layers(actual, batches(*sizes))
    assert_equal_statistics(actual, expected)
    assert not actual.training


def test_the_number_of_threads_changes_no_bit() -> None:
    by_threads = []
    for num_threads in (1, 2, 3):
        network = subnet(1)
        calibrate_by_layers(network, batches(7, 2), num_threads=num_threads)
        by_threads.append(statistics(network))
    for other in by_threads[1:]:
        assert all(torch.equal(first, second) for first, second in zip(by_threads[0], other, strict=True))
    assert torch.get_num_threads() >= 1


@dataclass(frozen=True)
class Doubled(Processes):
    """Two processes, of which the other has the same sums."""

    count: int = 2

    def total(self, tensor: Tensor) -> Tensor:
        return 2 * tensor


def test_sums_are_those_of_all_processes() -> None:
    expected, actual = subnet(2), subnet(2)
    calibrate(expected, batches(3) * 2)
    calibrate_by_layers(actual, batches(3), Doubled())
    assert_equal_statistics(actual, expected)


def test_no_batch_is_an_error_and_leaves_the_threads() -> None:
    threads = torch.get_num_threads()
    with pytest.raises(ValueError, match="at least one batch"):
        calibrate_by_layers(subnet(0), [])
    assert torch.get_num_threads() == threads
