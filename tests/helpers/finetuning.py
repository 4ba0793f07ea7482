"""Runs the command that fine-tunes, with measurements and signals that a test decides."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from subnet_export import finetune as entry
from subnet_export.ap_measurement import measure
from subnet_export.exported_model import Measurement
from subnet_export.finetuning import run as finetuning_run
from subnet_export.finetuning.trainer import FineTuner
from supernet.pose.inference import PoseEstimator


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Call the entry point as from a command line; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["finetune", "--device", "cpu", *map(str, arguments)])
    try:
        entry.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def three_steps(model: Path, out: Path) -> list[object]:
    return ["--steps", 3, "--batch-size", 4, "--model", model, "--output", out]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def pretend(monkeypatch: pytest.MonkeyPatch, before: float, after: float) -> None:
    """Replace the measured AP on the validation split by ``before``, then ``after``."""
    aps = iter((before, after))

    def pretended(estimator: PoseEstimator, images: Any, split: str, *rest: Any) -> Measurement:
        result = measure(estimator, images, split, *rest)
        return replace(result, metrics={**result.metrics, "AP": next(aps)}) if split == "val" else result

    monkeypatch.setattr(finetuning_run, "measure", pretended)


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send SIGTERM to this process during training step ``step``."""
    original = FineTuner.steps

    def interrupted(tuner: FineTuner) -> Iterator[float]:
        for loss in original(tuner):
            if tuner.step == step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield loss

    monkeypatch.setattr(FineTuner, "steps", interrupted)
