"""Section: times and memory of passes of single subnets and of sandwich steps, in several number formats."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from scripts.benchmarks.timing import spread
from scripts.benchmarks.train import archs_of, mark, seconds_between
from scripts.gpu_reporting.bench import steps_of, trainer_of
from scripts.gpu_reporting.context import Context, Format
from supernet.arch import Arch
from supernet.compute.precision import Precision, forward_precision, tf32
from supernet.errors import UserError
from supernet.pose.training.augmentation import Batch
from supernet.training import trainer as trainer_module
from supernet.training.trainer import Trainer

WORKLOADS = ("sandwich", "largest", "half_width", "random", "smallest")
SECONDS_PER_ROW = 5.0
"""No row is begun with less time left."""


def steps(context: Context) -> dict[str, Any]:
    """Measure every workload at every size in every number format, until the time of the section is over."""
    rows: list[dict[str, Any]] = []
    num_left_out = 0
    for size, batch_size in context.effort.batches.items():
        for space in context.effort.spaces:
            needed = SECONDS_PER_ROW if context.is_gpu else 0
            if context.seconds_left() < needed:
                num_left_out += len(WORKLOADS) * len(context.effort.formats)
                continue
            trainer = trainer_of(context, space, size, batch_size, num_steps=1, workers=0)
            batch = next(steps_of(trainer))
            for name in context.effort.formats:
                for workload in WORKLOADS:
                    if context.seconds_left() < needed:
                        num_left_out += 1
                        continue
                    row = {"space": space, "size": size, "batch": batch_size, "format": name, "workload": workload}
                    rows.append(row | _measured(context, trainer, batch, workload, name))
                    context.keep({"rows": rows})
            del trainer, batch
            context.free_memory()
    return {"rows": rows, "left_out": num_left_out}


@contextmanager
def number_format(device: torch.device, name: Format) -> Iterator[AbstractContextManager[object]]:
    """Allow TF32 or not, and give the context of forward passes."""
    with tf32(allowed=name != "fp32"):
        yield forward_precision(device, precision_of(name))


def precision_of(name: Format) -> Precision:
    """Return the project's setting for a number format."""
    return "bfloat16" if name == "bf16" else "float32"


def _measured(context: Context, trainer: Trainer, batch: Batch, workload: str, name: Format) -> dict[str, Any]:
    """Return times, share of the host and peak memory of one row, or why there are none."""
    archs = archs_of(workload, trainer.supernet.space, batch.images.shape[-1])
    trainer.settings = replace(trainer.settings, precision=precision_of(name))
    try:
        with number_format(context.device, name) as precision:
            if workload == "sandwich":
                figures = _repeated(context, lambda: _step(trainer, batch, archs))
            else:
                figures = _repeated(context, lambda: _pass(trainer, batch, archs[0], precision))
    except (torch.OutOfMemoryError, UserError) as error:
        context.free_memory()
        return {"error": " ".join(str(error).split())[:200]}
    finally:
        for parameter in trainer.supernet.parameters():
            parameter.grad = None
    rate = len(batch.images) / (figures["wall_ms"]["median"] / 1e3)
    return {"images_per_second": round(rate, 1), **figures}


def _pass(trainer: Trainer, batch: Batch, arch: Arch, precision: AbstractContextManager[object]) -> list[Any]:
    """Run a subnet forward and backward, and return marks in the device's queue before, between and after."""
    images, targets = trainer.inputs(batch)
    marks = [mark(trainer.device)]
    with precision:
        outputs = trainer.supernet(images, arch)
    marks.append(mark(trainer.device))
    loss: Tensor = trainer.loss(outputs, targets, None).total
    loss.backward()  # type: ignore[no-untyped-call]
    marks.append(mark(trainer.device))
    for parameter in trainer.supernet.parameters():
        parameter.grad = None
    return marks


def _step(trainer: Trainer, batch: Batch, archs: list[Arch]) -> list[Any]:
    """Run a whole step, and return marks before and after."""
    (scheduled,) = trainer.scheduled
    marks = [mark(trainer.device)]
    with mock.patch.object(trainer_module, "step_archs", return_value=archs):
        trainer.train_step(scheduled, batch, 0.0)
    return [*marks, mark(trainer.device)]


def _repeated(context: Context, run: Callable[[], list[Any]]) -> dict[str, Any]:
    """Repeat ``run`` and return its figures.

    The host enqueues work and runs ahead of the device. Where ``launch_share``, the share of the time until it has
    enqueued everything, is near 1, launching is what the time goes into and the device waits.
    """
    for _ in range(context.effort.warm_up):
        run()
    context.synchronise()
    if context.is_gpu:
        torch.cuda.reset_peak_memory_stats(context.device)
    parts: list[list[float]] = []
    host, wall = [], []
    for _ in range(context.effort.repeats):
        start = time.perf_counter()
        marks = run()
        host.append(time.perf_counter() - start)
        context.synchronise()
        wall.append(time.perf_counter() - start)
        parts.append([1e3 * seconds_between(*pair) for pair in pairwise(marks)])
    names = ("step_ms",) if len(parts[0]) == 1 else ("forward_ms", "backward_ms")
    figures: dict[str, Any] = {"wall_ms": spread([1e3 * seconds for seconds in wall])}
    figures |= {name: spread(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}
    figures["launch_share"] = round(statistics.median(host) / statistics.median(wall), 3)
    if context.is_gpu:
        figures["peak_memory_mib"] = round(torch.cuda.max_memory_allocated(context.device) / 2**20)
    return figures
