"""Blocks as PyTorch modules: cut out of deployed networks (batch norm folded), so that nothing is defined twice."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from search.lut.onnx_blocks import input_shapes
from search.lut.workloads import NoOp, Workload
from subnet_export.deployment.deployed_network import DeploymentNetwork
from supernet.arch import Arch, Stage
from supernet.costs.latency_blocks import Block, Bottleneck, Deconv, Stem
from supernet.litepose import LitePose, in_channels_last


class TorchBlock(nn.Module):
    """Some layers of a deployed network.

    Args:
        layers: Holds the parameters.
        compute: The forward pass.
    """

    def __init__(self, layers: nn.Module, compute: Callable[..., Tensor | tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.layers, self._compute = layers, compute

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map a block's inputs to its output."""
        return self._compute(*inputs)


def torch_block(
    subject: Workload, num_keypoints: int, batch: int, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, list[tuple[int, ...]]]:
    """Return the module of a block, network or nothing, on the CPU in evaluation mode, and its input shapes."""
    shapes = input_shapes(subject, batch)
    if isinstance(subject, NoOp):
        return nn.ReLU(), shapes
    arch = subject if isinstance(subject, Arch) else carrier_arch(subject)
    with torch.random.fork_rng(devices=[]):
        deployed = DeploymentNetwork(LitePose(arch, num_keypoints).eval())
    network = deployed.network
    in_channels_last(network)
    network.to(dtype)

    def normalised(raw_images: Tensor) -> Tensor:
        images: Tensor = (raw_images.permute(0, 3, 1, 2).to(torch.float32) - deployed.mean) / deployed.deviation
        return images.to(dtype)

    if isinstance(subject, Arch):
        return TorchBlock(deployed, lambda raw_images: network(normalised(raw_images))), shapes
    if isinstance(subject, Stem):
        return TorchBlock(deployed, lambda raw_images: network.first(normalised(raw_images))), shapes
    if isinstance(subject, Bottleneck):
        block = _stages(network)[_stage_of(subject)][-1]
        return TorchBlock(block, block), shapes
    if isinstance(subject, Deconv):
        refined, raw, after = network.deconv_refined[0], network.deconv_raw[0], network.deconv_bnrelu[0]
        return TorchBlock(nn.ModuleList([refined, raw, after]), lambda x, skip: after(refined(x) + raw(skip))), shapes
    level = 0 if subject.outputs == 2 * num_keypoints else 1
    refined, raw = network.final_refined[level], network.final_raw[level]
    return TorchBlock(nn.ModuleList([refined, raw]), lambda x, skip: refined(x) + raw(skip)), shapes


def carrier_arch(block: Block) -> Arch:
    """Return a small arch that has ``block`` where :func:`part` takes it from; its resolution does not matter."""
    stem, deconv = 8, [8, 8, 8]
    stages = [Stage(8, stride, (1,), (3,)) for stride in (2, 2, 2, 1)]
    if isinstance(block, Stem):
        stem = block.width
    elif isinstance(block, Bottleneck):
        place = _stage_of(block)
        shape = ((block.expand_ratio,), (block.kernel_size,))
        stages[place] = Stage(block.width, block.stride, *shape)
        if place == 0:
            stem = block.in_width
        else:
            stages[place - 1] = Stage(block.in_width, stages[place - 1].stride, (1,), (3,))
    elif isinstance(block, Deconv):
        stages[3], stages[2] = Stage(block.in_width, 1, (1,), (3,)), Stage(block.skip_width, 2, (1,), (3,))
        deconv[0] = block.width
    else:
        deconv[1:] = [block.in_width] * 2
        stages[0], stem = Stage(block.skip_width, 2, (1,), (3,)), block.skip_width
    return Arch(64, stem, tuple(stages), tuple(deconv))


def _stage_of(block: Bottleneck) -> int:
    """Return a stage whose first block has the stride of ``block``."""
    return 0 if block.stride == 2 else 3


def _stages(network: LitePose) -> list[nn.Sequential]:
    return [stage for stage in network.stage if isinstance(stage, nn.Sequential)]
