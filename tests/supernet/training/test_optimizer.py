"""Learning rates, averaged weights, and steps that do not move weights without a gradient."""

import pytest
import torch
from torch import nn

from supernet.training.optimizer import ExponentialMovingAverage, MaskedAdam, learning_rate


def test_the_rate_warms_up_peaks_and_falls_to_its_floor() -> None:
    assert learning_rate(0.0, 1.0) == pytest.approx(0.1)
    assert learning_rate(0.05, 1.0) == pytest.approx(1.0)
    assert learning_rate(0.525, 1.0) == pytest.approx(0.505)
    assert learning_rate(1.0, 1.0) == pytest.approx(0.01)


def test_weights_without_gradient_keep_value_and_moments_in_spite_of_momentum() -> None:
    weight = nn.Parameter(torch.ones(4))
    adam = MaskedAdam([weight], clip_norm=1e9)
    weight.grad = torch.tensor([1.0, 1.0, 1.0, 1.0])
    adam.step(0.1)
    before = weight.detach().clone()
    moments = [moment.clone() for moment in adam.moments]
    weight.grad = torch.tensor([1.0, 0.0, 1.0, 0.0])
    adam.step(0.1)
    assert torch.equal(weight[[1, 3]], before[[1, 3]])
    for now, then in zip(adam.moments, moments, strict=True):
        assert torch.equal(now[[1, 3]], then[[1, 3]])
        assert (now[[0, 2]] != then[[0, 2]]).all()
    assert (weight[[0, 2]] != before[[0, 2]]).all()


def test_where_everything_is_touched_it_is_plain_adam() -> None:
    torch.manual_seed(0)
    weight, reference = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.zeros(5, 3))
    reference.data.copy_(weight.data)
    adam, plain = MaskedAdam([weight], clip_norm=1e9), torch.optim.Adam([reference], lr=0.01)
    for _ in range(5):
        gradient = torch.randn(5, 3)
        weight.grad, reference.grad = gradient.clone(), gradient.clone()
        adam.step(0.01)
        plain.step()
    torch.testing.assert_close(weight, reference, rtol=0, atol=1e-7)


def test_rate_factors_scale_the_steps_of_their_parameters_only() -> None:
    torch.manual_seed(0)
    start = [torch.randn(5, 3), torch.randn(4)]
    plain, scaled = ([nn.Parameter(value.clone()) for value in start] for _ in range(2))
    adam, slower = MaskedAdam(plain, clip_norm=1e9), MaskedAdam(scaled, clip_norm=1e9, rate_factors=(1.0, 0.25))
    for first, second in zip(plain, scaled, strict=True):
        first.grad = torch.randn_like(first)
        second.grad = first.grad.clone()
    adam.step(0.01)
    slower.step(0.01)
    torch.testing.assert_close(scaled[0], plain[0], rtol=0, atol=0)
    torch.testing.assert_close(scaled[1] - start[1], 0.25 * (plain[1] - start[1]))


def test_a_weight_without_any_gradient_stays_and_layouts_do_not_matter() -> None:
    torch.manual_seed(0)
    idle, weight, plain = (nn.Parameter(torch.randn(4, 3, 2, 2)) for _ in range(3))
    plain.data.copy_(weight.data)
    weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    before = idle.detach().clone()
    adam, reference = MaskedAdam([idle, weight], clip_norm=1e9), torch.optim.Adam([plain], lr=0.01)
    for _ in range(3):
        gradient = torch.randn(4, 3, 2, 2)
        weight.grad = gradient.contiguous(memory_format=torch.channels_last)
        plain.grad = gradient.clone()
        adam.step(0.01)
        reference.step()
    assert torch.equal(idle, before)
    torch.testing.assert_close(weight, plain, rtol=0, atol=1e-7)


def test_the_gradient_is_clipped_as_a_whole() -> None:
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    adam = MaskedAdam([first, second], clip_norm=1.0)
    first.grad, second.grad = torch.tensor([30.0]), torch.tensor([40.0])
    assert float(adam.step(0.1)) == pytest.approx(50.0)
    # Adam's first moment after one step is (1 - 0.9) times the clipped gradient.
    assert adam.moments[0].tolist() == pytest.approx([0.1 * 0.6, 0.1 * 0.8], rel=1e-4)


def test_the_average_follows_its_recurrence() -> None:
    weight = nn.Parameter(torch.zeros(1))
    average = ExponentialMovingAverage({"w": weight}, decay=0.5)
    expected = 0.0
    for n in range(1, 8):
        weight.data.fill_(float(n))
        average.update({"w": weight})
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert float(average.average["w"]) == pytest.approx(expected, rel=1e-6)
