"""Figures of a short training run; ``python -m tests.golden.training_log_recipe`` stores them again.

They guard against unintended changes. A change that is meant to alter the arithmetic of training stores them again and
says so; any other change must leave them as they are.

The run that users see, in float32, can be compared on the stored processor only: Adam takes steps of full size even
along gradients that are pure rounding error, so a difference in the last bit grows to a thousandth after 8 steps and to
a tenth after 20. The same steps in float64 start nine digits lower and stay comparable everywhere. How closely is
measured: the steps are repeated with some of this processor's instructions disabled, as on other processors, and on
several threads. The largest relative distance of any figure is stored as ``spread``.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from supernet.compute import machine
from supernet.pose.geometry import normalise
from supernet.pose.keypoints import COCO
from supernet.pose.training.augmentation import Batch
from supernet.pose.training.loader import step_resolution
from supernet.training.phases import ScheduledPhase
from supernet.training.trainer import Trainer
from tests.helpers.training import steps, tiny_trainer

PATH = Path(__file__).with_name("training_log.json")
NUM_STEPS = 20
OTHER_PROCESSORS: dict[str, dict[str, str]] = {
    "PyTorch without AVX": {"ATEN_CPU_CAPABILITY": "default"},
    "oneDNN without AVX": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "MKL as on any processor": {"MKL_CBWR": "COMPATIBLE"},
    "numpy without AVX": {"NPY_DISABLE_CPU_FEATURES": "X86_V3"},
    "without oneDNN": {"WITHOUT_ONEDNN": "1"},
    "two threads": {"NUM_THREADS": "2"},
    "all of these": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3",
        "WITHOUT_ONEDNN": "1",
        "NUM_THREADS": "2",
    },
}
"""Environment variables of the libraries; the last two names belong to this module."""
Line = list[float]
Change = Callable[[Trainer], object]


def logged(trainer: Trainer, on_line: Callable[[Line], object] = lambda _: None) -> list[Line]:
    """Train and return the losses and the gradient norm of each step, passing each line to ``on_line`` at once."""
    lines: list[Line] = []
    for report in steps(trainer):
        lines.append([float(value) for value in (*(terms.total for terms in report.losses), report.gradient_norm)])
        on_line(lines[-1])
    return lines


def in_float32() -> list[Line]:
    """Figures of the run that users see, on the built-in people."""
    return logged(tiny_trainer(num_steps=NUM_STEPS))


def in_float64(change: Change = lambda _: None, on_line: Callable[[Line], object] = lambda _: None) -> list[Line]:
    """Figures of a run in float64, on noise images, because OpenCV draws and resizes differently on other processors.

    Args:
        change: Applied to the trainer before its first step.
        on_line: Called after every step with its figures.
    """
    normalise(torch.zeros(1, 3, 1, 1))  # caches its constants in the type of the first call
    with float64():
        trainer = tiny_trainer(num_steps=NUM_STEPS)
        trainer.supernet.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(), *inputs[1:]))
        trainer.batches = lambda scheduled: noise_batches(trainer, scheduled)  # type: ignore[method-assign]
        change(trainer)
        return logged(trainer, on_line)


@contextmanager
def float64() -> Iterator[None]:
    """Make float64 the type of new tensors, and of those that the losses convert to float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def noise_batches(trainer: Trainer, scheduled: ScheduledPhase) -> Iterator[tuple[Batch, float]]:
    """Yield images of noise with three people each, at the resolutions that the loader would draw."""
    size = trainer.settings.batch_size
    for step in range(scheduled.start, scheduled.stop):
        side, rng = step_resolution(scheduled.resolutions, trainer.settings.seed, step), np.random.RandomState(step)
        images = torch.from_numpy(rng.randint(0, 256, (size, 3, side, side)).astype(np.uint8))
        places = rng.randint(0, side, (size, 3, COCO.num, 2)).astype(np.float64)
        people = torch.from_numpy(np.concatenate([places, np.full((size, 3, COCO.num, 1), 2.0)], axis=3))
        mask = torch.from_numpy(rng.rand(size, side // 2, side // 2) > 0.1)
        yield Batch(images, people, mask, torch.arange(size)), 0.0


def distance(line: Line, stored: Line) -> float:
    """Return the largest relative distance between the figures of two lines."""
    return max(abs(value / expected - 1) for value, expected in zip(line, stored, strict=True))


def made_on() -> dict[str, Any]:
    """Return what determines the bits of single-threaded arithmetic: versions, processor, and disabled instructions."""
    versions = machine.versions()
    limits = {name for variables in OTHER_PROCESSORS.values() for name in variables} | {"OPENCV_IPP"}
    return {
        **{name: versions[name] for name in ("torch", "numpy", "opencv")},
        "processor": str(machine.machine()["processor"]),
        "model": {name: cpuinfo().get(name) for name in ("vendor_id", "cpu family", "model", "stepping")},
        "caches": [
            path.read_text().strip() for path in sorted(Path("/sys/devices/system/cpu/cpu0").glob("cache/*/size"))
        ],
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "limits": {name: os.environ[name] for name in sorted(limits) if name in os.environ},
    }


def cpuinfo() -> dict[str, str]:
    """Return Linux's description of the first processor; empty on other systems."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}


def as_hex(lines: list[Line]) -> list[list[str]]:
    return [[value.hex() for value in line] for line in lines]


def as_numbers(lines: list[list[str]]) -> list[Line]:
    return [[float.fromhex(value) for value in line] for line in lines]


def in_process(variables: dict[str, str]) -> list[Line]:
    """Return the figures in float64 from a process with additional environment variables."""
    command = [sys.executable, "-m", "tests.golden.training_log_recipe", "--print"]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True)
    return as_numbers(json.loads(done.stdout))


def main() -> None:
    torch.set_num_threads(int(os.environ.get("NUM_THREADS", "1")))
    torch.backends.mkldnn.enabled = "WITHOUT_ONEDNN" not in os.environ  # type: ignore[assignment]
    cv2.setNumThreads(1)
    exact = in_float64()
    if "--print" in sys.argv:
        print(json.dumps(as_hex(exact)))
        return
    spread = 0.0
    for name, variables in OTHER_PROCESSORS.items():
        largest = max(map(distance, in_process(variables), exact))
        print(f"{name}: {largest:.1e}")
        spread = max(spread, largest)
    value = {"made_on": made_on(), "float32": as_hex(in_float32()), "float64": as_hex(exact), "spread": spread}
    PATH.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
