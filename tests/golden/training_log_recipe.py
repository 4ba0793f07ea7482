"""Losses of a short training run: ``python -m tests.golden.training_log_recipe`` stores them anew.

They guard against changes that nobody meant. A change that is meant to alter the arithmetic of training stores them
anew and says so; one that is not must leave them as they are.
"""

import json
from pathlib import Path

import cv2
import torch

from supernet.compute import machine
from supernet.training.trainer import StepReport
from tests.helpers.training import tiny_trainer

PATH = Path(__file__).with_name("training_log.json")
NUM_STEPS = 20


def logged() -> list[list[str]]:
    """Return the loss of each subnet and the gradient norm of every step, as hexadecimal numbers."""
    trainer, lines = tiny_trainer(num_steps=NUM_STEPS), []

    def on_step(report: StepReport) -> None:
        values = [*(terms.total for terms in report.losses), report.gradient_norm]
        lines.append([float(value).hex() for value in values])

    trainer.run(on_step, lambda _: None)
    return lines


def made_on() -> dict[str, str]:
    """Return what decides the bits of one thread's arithmetic."""
    versions = machine.versions()
    return {
        **{name: versions[name] for name in ("torch", "numpy", "opencv")},
        "processor": str(machine.machine()["processor"]),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    PATH.write_text(json.dumps({"made_on": made_on(), "lines": logged()}, indent=1) + "\n", encoding="utf-8")
