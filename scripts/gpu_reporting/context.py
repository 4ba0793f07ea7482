"""What every section of the report gets: the device, how much to measure there, the time left, and a work folder."""

import gc
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from supernet.compute.device import pick_device
from supernet.compute.machine import num_cores

Format = Literal["fp32", "tf32", "bf16"]
_WORKER_BYTES = 64 * 2**20
"""Twice the batches of 32 images of 256 px that a worker prepares ahead."""


@dataclass(frozen=True)
class Effort:
    """How much the sections measure.

    Attributes:
        spaces: Search spaces, the most interesting first.
        batches: Images per step by input size in pixels.
        formats: Number formats of passes and steps.
        warm_up, repeats: Passes or steps before and during a measurement.
        profiled: Steps under the profiler.
        detailed: Steps whose every operation is recorded; many would take long to add up.
        workers: Worker processes that load images.
        train_batch: Images per step of the short training.
        train_images, test_images: Images of its splits.
        train_seconds: Length of the short training.
        least_steps: Steps that a training takes at least.
        export_formats: What the export writes.
        lut_rounds: Visits of each block for the latency table.
        test_seconds: Limit of the GPU tests.
    """

    spaces: tuple[str, ...]
    batches: dict[int, int]
    formats: tuple[Format, ...]
    warm_up: int
    repeats: int
    profiled: int
    detailed: int
    workers: int
    train_batch: int
    train_images: int
    test_images: int
    train_seconds: float
    least_steps: int
    export_formats: str
    lut_rounds: int
    test_seconds: float


def shared_memory() -> int:
    """Return the bytes that are free for what workers hand over; containers often allow little."""
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return 2**40  # not Linux, which hands over in another way


def gpu_effort() -> Effort:
    """Return what is measured on a GPU."""
    return Effort(
        spaces=("litepose", "nano"),
        batches={256: 32, 512: 16},
        formats=("bf16", "tf32", "fp32"),
        warm_up=3,
        repeats=10,
        profiled=20,
        detailed=3,
        workers=max(1, min(num_cores() - 1, 16, shared_memory() // _WORKER_BYTES)),
        train_batch=32,
        train_images=4000,
        test_images=64,
        train_seconds=60.0,
        least_steps=20,
        export_formats="litepose,onnx",
        lut_rounds=5,
        test_seconds=120.0,
    )


def cpu_effort() -> Effort:
    """Return a reduced form that takes a minute or two on a CPU."""
    return Effort(
        spaces=("nano",),
        batches={64: 2},
        formats=("fp32",),
        warm_up=1,
        repeats=2,
        profiled=2,
        detailed=1,
        workers=1,
        train_batch=2,
        train_images=8,
        test_images=2,
        train_seconds=2.0,
        least_steps=6,
        export_formats="litepose",
        lut_rounds=1,
        test_seconds=60.0,
    )


@dataclass
class Context:
    """One run of the report.

    Attributes:
        device: What is measured.
        effort: How much.
        work: A folder for files that nobody keeps.
        deadline: When the report must be complete, by ``time.perf_counter``.
        keep: Called by a long section with what it has so far, which is then in the report even if it fails.
        trained: Folder of the short training, once it is complete.
        short_step_seconds: Of a step of the short training, once it is measured.
        may_start_processes: Whether sections may run in processes of their own.
    """

    device: torch.device
    effort: Effort
    work: Path
    deadline: float
    keep: Callable[[dict[str, Any]], None] = field(default=lambda _: None)
    trained: Path | None = None
    short_step_seconds: float | None = None
    may_start_processes: bool = True

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return self.device.type == "cuda"

    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.perf_counter()

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def free_memory(self) -> None:
        """Return unused memory to the device, for what comes next or for another process."""
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()


def build(device: str, work: Path, deadline: float, train_seconds: float | None) -> Context:
    """Return the context of a report on the device called ``device``.

    Raises:
        UserError: There is no such device.
    """
    chosen = pick_device(device)
    effort = gpu_effort() if chosen.type == "cuda" else cpu_effort()
    if train_seconds is not None:
        effort = replace(effort, train_seconds=train_seconds)
    return Context(chosen, effort, work, deadline)
