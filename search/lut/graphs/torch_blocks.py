"""Blocks as PyTorch modules, taken out of deployed networks (with folded batch norms)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from search.lut.graphs.inputs import input_shapes
from search.lut.workloads import NoOp, Workload
from subnet_export.deployment.deployed_network import DeploymentNetwork
from supernet.arch import HEAD, STAGE_STRIDES, Arch, Stage
from supernet.costs.latency_blocks import Block, Bottleneck, Deconv, Stem
from supernet.litepose import LitePose, in_channels_last


class TorchBlock(nn.Module):
    """Layers of a deployed network that compute a workload.

    Args:
        layers: Owns the parameters.
        compute: The forward pass.
    """

    def __init__(self, layers: nn.Module, compute: Callable[..., Tensor | tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.layers, self._compute = layers, compute

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map a workload's inputs to its outputs."""
        return self._compute(*inputs)


def torch_block(
    workload: Workload, num_keypoints: int, batch: int, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, list[tuple[int, ...]]]:
    """Return the module of a workload, on the CPU in evaluation mode, and its input shapes."""
    shapes = input_shapes(workload, batch)
    if isinstance(workload, NoOp):
        return nn.ReLU(), shapes
    arch = workload if isinstance(workload, Arch) else carrier_arch(workload)
    with torch.random.fork_rng(devices=[]):
        deployed = DeploymentNetwork(LitePose(arch, num_keypoints).eval())
    network = deployed.network
    in_channels_last(network)
    network.to(dtype)

    def normalised(raw_images: Tensor) -> Tensor:
        images: Tensor = (raw_images.permute(0, 3, 1, 2).to(torch.float32) - deployed.mean) / deployed.deviation
        return images.to(dtype)

    if isinstance(workload, Arch):
        return TorchBlock(deployed, lambda raw_images: network(normalised(raw_images))), shapes
    if isinstance(workload, Stem):
        return TorchBlock(deployed, lambda raw_images: network.first(normalised(raw_images))), shapes
    if isinstance(workload, Bottleneck):
        block = _stages(network)[_stage_of(workload)][-1]
        return TorchBlock(block, block), shapes
    if isinstance(workload, Deconv):
        refined, raw, after = network.deconv_refined[0], network.deconv_raw[0], network.deconv_bnrelu[0]
        return TorchBlock(nn.ModuleList([refined, raw, after]), lambda x, skip: after(refined(x) + raw(skip))), shapes
    (prediction,) = (
        level.prediction
        for level in HEAD
        if level.prediction is not None and level.prediction.num_maps(num_keypoints) == workload.outputs
    )
    refined, raw = network.final_refined[prediction.index], network.final_raw[prediction.index]
    return TorchBlock(nn.ModuleList([refined, raw]), lambda x, skip: refined(x) + raw(skip)), shapes


def carrier_arch(block: Block) -> Arch:
    """Return a small arch that has ``block`` where :func:`torch_block` takes it from; its resolution is irrelevant."""
    backbone, deconv = [8] * 5, [8] * len(HEAD)  # widths of s0 to s4 and of the levels
    shapes = [(1, 3)] * len(STAGE_STRIDES)
    if isinstance(block, Stem):
        backbone[0] = block.width
    elif isinstance(block, Bottleneck):
        stage = _stage_of(block)
        backbone[stage : stage + 2] = block.in_width, block.width
        shapes[stage] = block.expand_ratio, block.kernel_size
    elif isinstance(block, Deconv):
        backbone[-1], backbone[HEAD[0].skip], deconv[0] = block.in_width, block.skip_width, block.width
    else:
        for level in HEAD:
            if level.prediction is not None:
                backbone[level.prediction.skip], deconv[level.index] = block.skip_width, block.in_width
    stages = (
        Stage(width, stride, (ratio,), (kernel_size,))
        for width, stride, (ratio, kernel_size) in zip(backbone[1:], STAGE_STRIDES, shapes, strict=True)
    )
    return Arch(64, backbone[0], tuple(stages), tuple(deconv))


def _stage_of(block: Bottleneck) -> int:
    """Return the index of a stage whose first block has the stride of ``block``."""
    return STAGE_STRIDES.index(block.stride)


def _stages(network: LitePose) -> list[nn.Sequential]:
    return [stage for stage in network.stage if isinstance(stage, nn.Sequential)]
