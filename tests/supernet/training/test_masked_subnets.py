"""A masked subnet computes and trains what the subnet computed with slices does."""

import numpy as np
import pytest
import torch

from supernet.space import SearchSpace
from supernet.training.masked_subnets import can_mask, masked_outputs
from supernet.weight_sharing import SuperNet
from tests.helpers.training import steps, tiny_trainer


def varied(space: SearchSpace) -> SuperNet:
    """A supernet in which nothing is 0 or the identity."""
    torch.manual_seed(0)
    supernet = SuperNet(space, 3).double().train()
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return supernet


@pytest.mark.parametrize("name", ["nano", "photos"])
def test_outputs_and_gradients_are_those_of_slices(name: str) -> None:
    space = SearchSpace.load(name)
    supernet, rng = varied(space), np.random.default_rng(0)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for arch in [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(2))]:
        assert can_mask(space.largest(), arch)
        gradients = []
        for forward in (SuperNet.forward, masked_outputs):
            low, high = forward(supernet, images, arch)
            (low.square().mean() + high.sin().mean()).backward()  # type: ignore[no-untyped-call]
            gradients.append((low.detach(), high.detach(), {n: p.grad for n, p in supernet.named_parameters()}))
            supernet.zero_grad(set_to_none=True)
        sliced, masked = gradients
        torch.testing.assert_close(masked[:2], sliced[:2])
        for parameter, expected in sliced[2].items():
            actual = masked[2][parameter]
            if actual is None or expected is None:
                assert not any(gradient is not None and gradient.any() for gradient in (actual, expected)), parameter
            else:
                torch.testing.assert_close(actual, expected, msg=parameter)
                assert not actual[expected == 0].any(), parameter  # exactly 0, so that Adam leaves the weight alone


def test_an_arch_with_other_residual_connections_is_not_masked() -> None:
    value = SearchSpace.load("nano").to_dict()
    value["stages"][3]["widths"] = [48, 96]
    space = SearchSpace.from_dict(value)
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(40)]
    adds = [arch.stages[3].width == arch.stages[2].width for arch in archs]
    assert any(adds)
    assert not all(adds)
    assert [can_mask(space.largest(), arch) for arch in archs] == [not add for add in adds]


def test_a_training_with_fixed_shapes_takes_the_same_steps() -> None:
    sliced, masked = tiny_trainer(fixed_shapes=False), tiny_trainer(fixed_shapes=True)
    for expected, actual in zip(steps(sliced), steps(masked), strict=True):
        for role, before, after in zip(expected.roles, expected.losses, actual.losses, strict=True):
            torch.testing.assert_close(after.total, before.total, rtol=1e-4, atol=0, msg=f"{expected.step} {role}")
