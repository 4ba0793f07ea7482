"""Estimates the duration of the study ``python -m scripts.studies.weight_sharing`` from a few steps of each phase."""

import io
import json
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.studies.sharing_runs import Part, Study
from supernet.io import files
from supernet.pose.datasets import build
from supernet.training.launch import start_or_resume

_STEPS_PER_PHASE = 4
_NUM_IMAGES = 16


@dataclass(frozen=True)
class PartTiming:
    """Durations of one part of a study.

    Attributes:
        step_seconds: Seconds of a step, for each phase.
        image_seconds: Seconds to draw or load a training image for the first time.
        score_seconds: Seconds to calibrate and evaluate a subnet.
    """

    step_seconds: tuple[float, ...]
    image_seconds: float
    score_seconds: float


def seconds_left(study: Study, part: Part, timing: PartTiming) -> float:
    """Return the estimated seconds until ``part`` is done."""
    done = study.steps_done(part)
    phases = zip(study.scheduled(part), timing.step_seconds, strict=True)
    seconds = sum(max(0, phase.stop - max(phase.start, done)) * step_seconds for phase, step_seconds in phases)
    if done < study.plan.steps:
        images = min((study.plan.steps - done) * study.base["batch_size"], study.base["dataset"]["train"]["num_images"])
        seconds += (
            images * timing.image_seconds + 2 * timing.score_seconds
        )  # the training itself scores two subnets at its end
    return seconds + timing.score_seconds * sum(study.score(part, arch) is None for arch in study.arch_numbers(part))


def measure_timing(study: Study, part: Part) -> PartTiming:
    """Train ``part`` for a few steps of each phase on a few images, in a temporary folder."""
    config = study.config(part)
    phases = [phase | {"share": 1, "name": str(i)} for i, phase in enumerate(config["phases"])]
    dataset = config["dataset"]
    changes: dict[str, Any] = {
        "phases": phases,
        "steps": _STEPS_PER_PHASE * len(phases),
        "log_every": 1,
        "num_calibration_images": _NUM_IMAGES,
        "dataset": dataset | {name: dataset[name] | {"num_images": _NUM_IMAGES} for name in ("train", "test")},
    }
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so few steps train little is no news
        start_or_resume(config | changes | {"runs": folder}, [])
        run = Path(folder) / "train" / part.file_name
        by_phase: dict[int, list[float]] = defaultdict(list)
        for line in (run / "train.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            by_phase[int(row["phase"])].append(row["seconds"] * (1 - row["data_share"]))
        summary = files.read_json(run / "summary.json", "summary")
    num_images = dataset["test"]["num_images"] + config["num_calibration_images"]
    # Two subnets were scored, each on _NUM_IMAGES images after calibration on as many.
    seconds_per_image = (summary["seconds"] - summary["train_seconds"]) / (2 * 2 * _NUM_IMAGES)
    images = build(changes["dataset"], "train")
    start = time.perf_counter()
    for index in range(_NUM_IMAGES):
        images[index]
    image_seconds = (time.perf_counter() - start) / _NUM_IMAGES
    # The first step of a phase is slower than the others, because it meets new shapes.
    step_seconds = tuple(statistics.median(by_phase[i][1:]) for i in range(len(phases)))
    return PartTiming(step_seconds, image_seconds, seconds_per_image * num_images)
