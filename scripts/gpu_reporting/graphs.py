"""Section: how much launching costs, from the same passes launched one by one and replayed as a CUDA graph."""

import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from scripts.benchmarks.timing import spread
from scripts.benchmarks.train import archs_of, mark, seconds_between
from scripts.gpu_reporting.context import Context
from supernet.pose.keypoints import COCO
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

WARM_UP = 3
"""Passes before a recording, in which libraries choose their kernels and allocate."""
WORKLOADS = ("largest", "smallest")


def graphs(context: Context) -> dict[str, Any]:
    """Time forward and backward passes of extracted subnets in bfloat16, eager and replayed."""
    if not context.is_gpu:
        return {"left_out": "CUDA graphs need a GPU"}
    size, batch_size = next(iter(context.effort.batches.items()))
    rows: list[dict[str, Any]] = []
    context.keep({"rows": rows})
    for space_name in context.effort.spaces:
        space = SearchSpace.load(space_name)
        for workload in WORKLOADS:
            (arch,) = archs_of(workload, space, space.resolutions[-1])
            network = SuperNet(space, COCO.num).to(context.device).extract(arch).train()
            images = torch.randn(batch_size, 3, size, size, device=context.device)
            run = _pass(network, images.contiguous(memory_format=torch.channels_last))
            eager = _milliseconds(context, run)
            replayed = _milliseconds(context, _recorded(context, run, network))
            row: dict[str, Any] = {"space": space_name, "size": size, "batch": batch_size, "workload": workload}
            rows.append(row | {"eager_ms": spread(eager), "replayed_ms": spread(replayed)})
            rows[-1]["speedup"] = round(statistics.median(eager) / statistics.median(replayed), 2)
            context.keep({})
            context.free_memory()
    return {"rows": rows}


def _pass(network: torch.nn.Module, images: torch.Tensor) -> Callable[[], object]:
    """Return a function that runs ``network`` forward and backward; gradients add up."""

    def run() -> None:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, cache_enabled=False):
            low, high = network(images)
        loss: torch.Tensor = low.float().square().mean() + high.float().square().mean()
        loss.backward()  # type: ignore[no-untyped-call]

    return run


def _recorded(context: Context, run: Callable[[], object], network: torch.nn.Module) -> Callable[[], object]:
    """Return a function that replays ``run``, recorded on a stream of its own after passes to warm up."""
    stream = torch.cuda.Stream(context.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(context.device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream(context.device).wait_stream(stream)
    for parameter in network.parameters():
        parameter.grad = None  # so that the graph's own memory holds the gradients
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _milliseconds(context: Context, run: Callable[[], object]) -> list[float]:
    """Return the device's time of each of several runs, enqueued without waiting."""
    for _ in range(WARM_UP):
        run()
    context.synchronise()
    marks = [mark(context.device)]
    for _ in range(2 * context.effort.repeats):
        run()
        marks.append(mark(context.device))
    context.synchronise()
    return [1e3 * seconds_between(*pair) for pair in pairwise(marks)]
