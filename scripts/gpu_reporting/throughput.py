"""Section: training steps with the real loader, how busy the device is meanwhile, and what its time goes into."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from scripts.gpu_reporting.bench import steps_of, trainer_of
from scripts.gpu_reporting.context import Context
from scripts.gpu_reporting.machine import NVIDIA_SMI, answers_about, uuid_of
from supernet.compute.precision import tf32
from supernet.pose.training.augmentation import Batch
from supernet.training.trainer import Trainer

NUM_COSTS = 10
PREFETCHED = 4
"""Batches that each worker prepares ahead."""
SIZE = 256
"""Pixels, on a GPU."""
NEEDED_SECONDS = 25.0
"""No space is begun with less time left."""


def throughput(context: Context) -> dict[str, Any]:
    """Measure sandwich steps of every space, with data on.

    Raises:
        ExceptionGroup: Some spaces could not be measured; the others were.
    """
    size = SIZE if context.is_gpu else min(context.effort.batches)
    spaces: dict[str, Any] = {}
    errors: list[Exception] = []
    context.keep({"spaces": spaces})
    for space in context.effort.spaces:
        if context.is_gpu and context.seconds_left() < NEEDED_SECONDS:
            spaces[space] = {"left_out": f"{context.seconds_left():.0f} s left"}
        else:
            spaces[space] = {}
            try:
                measure(context, space, size, spaces[space])
            except Exception as error:  # noqa: BLE001 - the profiler of one space must not cost the figures of another
                errors.append(error)
        context.keep({})
    if errors:
        raise ExceptionGroup("not every space could be measured", errors)
    return {"spaces": spaces}


def seconds_per_step(context: Context, space: str, size: int, batch_size: int, num_steps: int) -> float:
    """Return the time of a sandwich step with data on, over ``num_steps`` steps."""
    warm_up = context.effort.warm_up
    trainer = trainer_of(context, space, size, batch_size, warm_up + num_steps, context.effort.workers)
    with tf32(allowed=True):
        batches = steps_of(trainer)
        run_steps(context, trainer, batches, warm_up)
        seconds = run_steps(context, trainer, batches, num_steps) / num_steps
        batches.close()  # type: ignore[attr-defined]
    return seconds


def measure(context: Context, space: str, size: int, figures: dict[str, Any], cuda_graphs: bool = False) -> None:
    """Fill ``figures`` bit by bit: what is measured stays if the profiler fails.

    Args:
        context: The report.
        space: Name of the search space.
        size: Pixels.
        figures: Filled.
        cuda_graphs: Whether passes are recorded; the largest costs, which are then those of a graph, are left out.
    """
    effort, batch_size = context.effort, context.effort.batches[size]
    if not cuda_graphs:
        figures["loader_images_per_second"] = _loader_rate(context, space, size, batch_size)
    plain = 4 * effort.repeats
    num_steps = 2 * effort.warm_up + plain + effort.profiled + effort.detailed
    trainer = trainer_of(context, space, size, batch_size, num_steps, effort.workers, cuda_graphs)
    with tf32(allowed=True):
        batches = steps_of(trainer)
        began = time.perf_counter()
        run_steps(context, trainer, batches, effort.warm_up)
        figures["first_steps_s"] = round(time.perf_counter() - began, 2)
        if context.is_gpu:
            torch.cuda.reset_peak_memory_stats(context.device)
        with _SmiSamples(uuid_of(context.device) if context.is_gpu else None) as smi:
            step_seconds = run_steps(context, trainer, batches, plain) / plain
        figures |= {
            "size": size,
            "batch": batch_size,
            "workers": effort.workers,
            "step_ms": round(1e3 * step_seconds, 2),
            "images_per_second": round(batch_size / step_seconds, 1),
            "nvidia_smi_utilisation_percent": smi.mean(),
        }
        if context.is_gpu:
            figures["peak_memory_mib"] = round(torch.cuda.max_memory_allocated(context.device) / 2**20)
            figures["reserved_memory_mib"] = round(torch.cuda.max_memory_reserved(context.device) / 2**20)
            context.keep({})
            figures |= _utilisation(context, trainer, batches, step_seconds)
            context.keep({})
        if not cuda_graphs:
            figures |= _costs(context, trainer, batches)
        batches.close()  # type: ignore[attr-defined]


def _loader_rate(context: Context, space: str, size: int, batch_size: int) -> float:
    """Return the images a second that the loader gives a device that does nothing else.

    The batches that workers prepare ahead come first and do not count: they would hide a slow loader.
    """
    num_ahead = PREFETCHED * context.effort.workers
    trainer = trainer_of(context, space, size, batch_size, 2 * num_ahead, context.effort.workers)
    batches = steps_of(trainer)
    for _ in range(num_ahead):
        next(batches)
    start = time.perf_counter()
    for _ in range(num_ahead):
        next(batches)
    context.synchronise()
    return round(num_ahead * batch_size / (time.perf_counter() - start), 1)


def run_steps(context: Context, trainer: Trainer, batches: Iterator[Batch], num_steps: int) -> float:
    """Take ``num_steps`` steps as training does, and return the seconds until the device has finished them."""
    (scheduled,) = trainer.scheduled
    context.synchronise()
    start = time.perf_counter()
    for _ in range(num_steps):
        trainer.train_step(scheduled, next(batches), 0.0)
    context.synchronise()
    return time.perf_counter() - start


def _utilisation(context: Context, trainer: Trainer, batches: Iterator[Batch], step_seconds: float) -> dict[str, Any]:
    """Return how busy the device is, from the times of its kernels and copies alone, which cost little to record."""
    num_steps = context.effort.profiled
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        seconds = run_steps(context, trainer, batches, num_steps)
    spans = spans_on(recorded, DeviceType.CUDA)
    busy = covered(spans) / 1e9
    return {
        "kernels_per_step": round(len(spans) / num_steps),
        "busy_ms_per_step": round(1e3 * busy / num_steps, 2),
        "busy_share": round(busy / num_steps / step_seconds, 3),
        "busy_share_under_the_profiler": round(busy / seconds, 3),
    }


def spans_on(recorded: profile, device_type: Any) -> list[tuple[int, int]]:
    """Return start and end, in ns, of everything that ran on a device.

    These are the profiler's raw events: torch's own list takes a minute to build for a hundred thousand kernels.
    """
    assert recorded.profiler is not None
    results = recorded.profiler.kineto_results
    assert results is not None
    return [(event.start_ns(), event.end_ns()) for event in results.events() if event.device_type() == device_type]


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Return the time that the union of ``spans`` (start, end) covers: kernels of several streams may overlap."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _costs(context: Context, trainer: Trainer, batches: Iterator[Batch]) -> dict[str, Any]:
    """Return the largest costs of a few steps: on the device by kernel, on the host by operation."""
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * context.is_gpu]
    num_steps = context.effort.detailed
    with profile(activities=activities) as recorded:
        run_steps(context, trainer, batches, num_steps)
    averages = list(recorded.key_averages())
    on_device = [item for item in averages if item.device_type == DeviceType.CUDA]
    on_host = [item for item in averages if item.device_type == DeviceType.CPU]

    def largest(items: Sequence[Any], microseconds: Callable[[Any], float]) -> list[dict[str, Any]]:
        total = sum(map(microseconds, items)) or 1.0
        return [
            {
                "name": str(item.key)[:120],
                "ms_per_step": round(microseconds(item) / 1e3 / num_steps, 3),
                "share": round(microseconds(item) / total, 3),
                "calls_per_step": round(item.count / num_steps, 1),
            }
            for item in sorted(items, key=microseconds, reverse=True)[:NUM_COSTS]
            if microseconds(item) > 0
        ]

    return {
        "largest_kernels": largest(on_device, lambda item: float(item.self_device_time_total)),
        "largest_by_operation": largest(on_host, lambda item: float(item.self_device_time_total)),
        "largest_on_host": largest(on_host, lambda item: float(item.self_cpu_time_total)),
    }


class _SmiSamples:
    """Utilisation of a GPU according to ``nvidia-smi``, several times a second within a context.

    Args:
        uuid: Of the GPU; None measures nothing.
    """

    def __init__(self, uuid: str | None) -> None:
        self._uuid, self._output = uuid, ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "_SmiSamples":
        if self._uuid is not None:
            command = [*NVIDIA_SMI, "--query-gpu=uuid,utilization.gpu", "-lms", "100"]
            try:
                self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            except OSError:
                self._process = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._output = self._process.communicate(timeout=10)[0]
            except subprocess.TimeoutExpired:
                self._process.kill()

    def mean(self) -> float | None:
        """Return the mean in percent; None without any sample."""
        lines = answers_about(self._uuid or "", self._output)
        values = [float(line) for line in lines if line.replace(".", "", 1).isdigit()]
        return round(sum(values) / len(values), 1) if values else None
