"""Batch norms folded into the convolutions before them, and activations after them: fewer passes over every map.

Source: the usual rewriting of convolution and batch norm as one convolution with bias. We differ in a sum of two
transposed convolutions, which LitePose normalises together: both take the gain, one of them the bias.
"""

import copy

import torch
from torch import Tensor, nn

from supernet.evaluation.fused_convolution import Activation, FusedConvolution
from supernet.litepose import LitePose, in_channels_last

Convolution = nn.Conv2d | nn.ConvTranspose2d


@torch.no_grad()
def folded(network: LitePose) -> LitePose:
    """Return a network of the same function without batch norms, up to rounding; ``network`` stays as it is.

    Args:
        network: Calibrated, in evaluation mode.

    Raises:
        ValueError: The network is in training mode, where its batch norms depend on the batch.
    """
    if network.training:
        raise ValueError("only a network in evaluation mode can be folded; call its eval() first")
    network = copy.deepcopy(network)
    for layers in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        _fold_sequence(layers)
    levels = zip(network.deconv_refined, network.deconv_raw, network.deconv_bnrelu, strict=True)
    for refined, raw, norm_relu in levels:
        assert isinstance(refined, nn.ConvTranspose2d)
        assert isinstance(raw, nn.ConvTranspose2d)
        assert isinstance(norm_relu, nn.Sequential)
        norm = norm_relu[0]
        assert isinstance(norm, nn.BatchNorm2d)
        gain, shift = _affine(norm)
        _scale(refined, gain)
        _scale(raw, gain)
        refined.bias = nn.Parameter(shift.to(refined.weight.dtype), requires_grad=False)
        norm_relu[0] = nn.Identity()
    in_channels_last(network)
    for layers in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        _fuse_activations(layers)
    return network.requires_grad_(False)


def _fold_sequence(layers: nn.Sequential) -> None:
    """Fold every batch norm of a sequence that follows a convolution, in place."""
    for number in range(1, len(layers)):
        convolution, norm = layers[number - 1], layers[number]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            assert convolution.bias is None
            gain, shift = _affine(norm)
            _scale(convolution, gain)
            convolution.bias = nn.Parameter(shift.to(convolution.weight.dtype), requires_grad=False)
            layers[number] = nn.Identity()


def _fuse_activations(layers: nn.Sequential) -> None:
    """Replace every convolution of a sequence, with the activation after it, by a fused one, in place."""
    found = [layer for layer in layers if not isinstance(layer, nn.Identity)]
    fused: list[nn.Module] = []
    for layer, following in zip(found, [*found[1:], None], strict=True):
        if isinstance(layer, nn.Conv2d):
            activations: dict[type, Activation] = {nn.ReLU6: "relu6", nn.ReLU: "relu"}
            fused.append(FusedConvolution(layer, activations.get(type(following), "none")))
        elif not (fused and isinstance(fused[-1], FusedConvolution) and isinstance(layer, nn.ReLU | nn.ReLU6)):
            fused.append(layer)
    while len(layers):
        del layers[-1]
    layers.extend(fused)


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Gain and shift (C,) of a batch norm in evaluation mode, in float64 where the device has it."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance, weight, bias = (
        _precise(values) for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    gain = weight / torch.sqrt(variance + norm.eps)
    return gain, bias - mean * gain


def _scale(convolution: Convolution, gain: Tensor) -> None:
    """Multiply the output channels of a convolution by ``gain`` (C,)."""
    axis = 1 if isinstance(convolution, nn.ConvTranspose2d) else 0
    shape = [1] * convolution.weight.dim()
    shape[axis] = -1
    scaled = _precise(convolution.weight) * gain.view(shape)
    convolution.weight = nn.Parameter(scaled.to(convolution.weight.dtype), requires_grad=False)


def _precise(values: Tensor) -> Tensor:
    return values.float() if values.device.type == "mps" else values.double()  # MPS has no float64
