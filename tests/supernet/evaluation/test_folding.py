"""A network without batch norms computes what the calibrated network does."""

import numpy as np
import pytest
import torch

from supernet.evaluation.calibration import calibrate
from supernet.evaluation.folding import folded
from supernet.litepose import LitePose, normalisation_layers
from supernet.pose.geometry import normalise
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

SPACE = SearchSpace.load("nano")


def calibrated(seed: int, dtype: torch.dtype) -> tuple[LitePose, torch.Tensor]:
    """A random subnet of the nano space whose batch norms are far from the identity, and images."""
    torch.manual_seed(seed)
    supernet = SuperNet(SPACE, 14).to(dtype)
    for norm in normalisation_layers(supernet):
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.normal_(norm.bias)
    network = supernet.extract(SPACE.sample(np.random.default_rng(seed)))
    images = torch.randint(256, (3, 3, 64, 96), dtype=torch.uint8)
    calibrate(network, [images])
    return network, normalise(images).to(dtype)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_a_folded_network_differs_by_rounding_only(seed: int, dtype: torch.dtype, rounding: float) -> None:
    network, images = calibrated(seed, dtype)
    with torch.inference_mode():
        for actual, expected in zip(folded(network)(images), network(images), strict=True):
            assert actual.dtype == dtype
            assert (actual - expected).abs().max() <= rounding * expected.abs().max()


def test_folding_leaves_no_batch_norm_and_the_network_as_it_was() -> None:
    network, _ = calibrated(0, torch.float32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert not normalisation_layers(folded(network))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_network_in_training_mode_is_refused() -> None:
    network, _ = calibrated(0, torch.float32)
    with pytest.raises(ValueError, match="evaluation mode"):
        folded(network.train())
