"""Batch norms folded into the convolutions before them, and activations after them: fewer passes over every map.

Source: the usual rewriting of convolution and batch norm as one convolution with bias. We differ in a sum of two
transposed convolutions, which LitePose normalises together: both take the gain, one of them the bias.
"""

import copy

import torch
from torch import Tensor, nn

from supernet.evaluation.fused_convolution import Activation, FusedConvolution
from supernet.litepose import LitePose, in_channels_last, normalisation_layers


@torch.no_grad()
def folded(network: LitePose) -> LitePose:
    """Return a network of the same function without batch norms, up to rounding; ``network`` stays as it is.

    Args:
        network: Calibrated, in evaluation mode.

    Raises:
        ValueError: The network is in training mode, where its batch norms depend on the batch.
    """
    network = copy.deepcopy(network)
    fold_batch_norms(network)
    in_channels_last(network)
    for layers in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        _fuse_activations(layers)
    return network.requires_grad_(False)


@torch.no_grad()
def fold_batch_norms(network: LitePose) -> None:
    """Merge every batch norm of ``network`` into the convolutions before it, in place.

    Raises:
        ValueError: The network is in training mode, where its batch norms depend on the batch.
    """
    if network.training:
        raise ValueError("only a network in evaluation mode can be folded; call its eval() first")
    for layers in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for number in range(1, len(layers)):
            convolution, norm = layers[number - 1], layers[number]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(norm, convolution)
                layers[number] = nn.Identity()
    # A level's two transposed convolutions are summed before their batch norm.
    for refined, raw, norm_relu in zip(network.deconv_refined, network.deconv_raw, network.deconv_bnrelu, strict=True):
        assert isinstance(norm_relu, nn.Sequential)
        _fold(norm_relu[0], refined, raw)
        norm_relu[0] = nn.Identity()
    assert not normalisation_layers(network)


def _fuse_activations(layers: nn.Sequential) -> None:
    """Replace every convolution of a sequence, with the activation after it, by a fused one, in place."""
    kept = [layer for layer in layers if not isinstance(layer, nn.Identity)]
    fused: list[nn.Module] = []
    for layer, following in zip(kept, [*kept[1:], None], strict=True):
        if isinstance(layer, nn.Conv2d):
            activations: dict[type, Activation] = {nn.ReLU6: "relu6", nn.ReLU: "relu"}
            fused.append(FusedConvolution(layer, activations.get(type(following), "none")))
        elif not (fused and isinstance(fused[-1], FusedConvolution) and isinstance(layer, nn.ReLU | nn.ReLU6)):
            fused.append(layer)
    while len(layers):
        del layers[-1]
    layers.extend(fused)


def _fold(norm: nn.Module, *summands: nn.Module) -> None:
    """Scale convolutions whose outputs are summed by the gain of ``norm``, and add its shift to the first.

    Both are computed in float64 where the device has it.
    """
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = _precise(norm.weight) / torch.sqrt(_precise(norm.running_var) + norm.eps)
    shift = _precise(norm.bias) - _precise(norm.running_mean) * gain
    for convolution in summands:
        assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
        assert convolution.bias is None
        shape = (-1, 1, 1, 1) if isinstance(convolution, nn.Conv2d) else (1, -1, 1, 1)
        weight = _precise(convolution.weight) * gain.view(shape)
        convolution.weight = nn.Parameter(weight.to(convolution.weight.dtype), requires_grad=False)
    summands[0].bias = nn.Parameter(shift.to(norm.weight.dtype), requires_grad=False)


def _precise(values: Tensor) -> Tensor:
    return values.float() if values.device.type == "mps" else values.double()  # MPS has no float64
