"""The strip-wise weight gradient against PyTorch's own."""

import pytest
import torch
from torch import Tensor, nn

from supernet.depthwise import DepthwiseConv2d
from supernet.litepose import LitePose
from supernet.space import SearchSpace

SIZES = [(12, 12), (13, 9), (6, 8), (16, 5), (1, 2), (3, 1)]


def gradients(conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and gradients of input and weight for an output gradient whose elements all differ."""
    x = x.clone().requires_grad_()
    out = conv(x)
    both = torch.autograd.grad(out, (x, conv.weight), torch.sin(torch.arange(out.numel()).view_as(out).to(x)))
    return out, *both


@pytest.mark.parametrize("kernel_size", [3, 5, 7, 9])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_output_and_gradients_equal_those_of_a_plain_convolution(
    kernel_size: int, stride: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    conv = DepthwiseConv2d(16, kernel_size, stride).double()
    plain = nn.Conv2d(16, 16, kernel_size, stride, kernel_size // 2, groups=16, bias=False).double()
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(3, 16, *size, dtype=torch.float64).contiguous(memory_format=torch.channels_last)

    for actual, expected in zip(gradients(conv, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


def test_training_a_network_goes_through_the_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    network = LitePose(SearchSpace.load("nano").largest(), 17).train()
    seen: list[int] = []

    def record(x: Tensor, gradient: Tensor, kernel_size: int, stride: int) -> Tensor:
        seen.append(kernel_size)
        return x.new_zeros(x.shape[1], 1, kernel_size, kernel_size)

    monkeypatch.setattr("supernet.depthwise.weight_gradient", record)

    low, high = network(torch.randn(2, 3, 32, 32))
    (low.sum() + high.sum()).backward()

    elastic = [k for stage in network.arch.stages for k in stage.kernel_sizes if k > 3]
    heads = [5] * 4
    assert sorted(seen) == sorted(elastic + heads)


def test_frozen_weights_and_evaluation_take_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supernet.depthwise.weight_gradient", None)
    x = torch.randn(1, 8, 6, 6, requires_grad=True)

    DepthwiseConv2d(8, 5).eval()(x).sum().backward()
    DepthwiseConv2d(8, 5).requires_grad_(False)(x).sum().backward()
