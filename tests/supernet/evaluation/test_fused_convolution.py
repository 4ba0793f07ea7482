"""Fused convolutions compute a convolution and the activation after it, with oneDNN's operator and without."""

import pytest
import torch
from torch import nn

from supernet.evaluation import fused_convolution
from supernet.evaluation.fused_convolution import Activation, FusedConvolution

LAYERS = [(6, 10, 1, 1, 1), (3, 8, 3, 2, 1), (8, 8, 5, 1, 8), (8, 8, 7, 2, 8)]
"""Channels in and out, kernel size, stride, groups."""


@pytest.mark.parametrize("with_operator", [True, False])
@pytest.mark.parametrize(("activation", "layer"), [("none", None), ("relu", nn.ReLU()), ("relu6", nn.ReLU6())])
@pytest.mark.parametrize(("inputs", "outputs", "size", "stride", "groups"), LAYERS)
def test_a_fused_convolution_is_the_convolution_and_its_activation(
    inputs: int,
    outputs: int,
    size: int,
    stride: int,
    groups: int,
    activation: Activation,
    layer: nn.Module | None,
    with_operator: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not with_operator:
        monkeypatch.setattr(fused_convolution, "_has_operator", lambda: False)
    torch.manual_seed(0)
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups)
    images = 9 * torch.randn(2, inputs, 12, 20).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    with torch.inference_mode():
        expected = convolution(images)
        if layer is not None:
            expected = layer(expected)
        for dtype in (torch.float32, torch.float64):
            fused = FusedConvolution(convolution.to(dtype), activation)
            torch.testing.assert_close(fused(images.to(dtype)).float(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(images, before, rtol=0, atol=0)
