"""How long the parts of a study of weight sharing will take, from a few measured steps of each phase."""

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
class Pace:
    """Seconds that one part takes.

    Attributes:
        step_seconds: Of one step, by the number of its phase.
        image_seconds: To draw or load a training image for the first time.
        score_seconds: To calibrate and evaluate one subnet.
    """

    step_seconds: tuple[float, ...]
    image_seconds: float
    score_seconds: float


def seconds_left(study: Study, part: Part, pace: Pace) -> float:
    """Return what is left of ``part`` at the given pace."""
    done = study.steps_done(part)
    phases = zip(study.scheduled(part), pace.step_seconds, strict=True)
    found = sum(max(0, phase.stop - max(phase.start, done)) * seconds for phase, seconds in phases)
    if done < study.plan.steps:
        images = min((study.plan.steps - done) * study.base["batch_size"], study.base["dataset"]["train"]["num_images"])
        found += images * pace.image_seconds + 2 * pace.score_seconds  # the training's own report scores two
    return found + pace.score_seconds * sum(study.score(part, arch) is None for arch in study.scored(part))


def measured_pace(study: Study, part: Part) -> Pace:
    """Train ``part`` for a few steps of each phase, on a few images, and forget what comes of it."""
    config = study.config(part)
    phases = [phase | {"share": 1, "name": str(i)} for i, phase in enumerate(config["phases"])]
    dataset = config["dataset"]
    few: dict[str, Any] = {
        "phases": phases,
        "steps": _STEPS_PER_PHASE * len(phases),
        "log_every": 1,
        "num_calibration_images": _NUM_IMAGES,
        "dataset": dataset | {name: dataset[name] | {"num_images": _NUM_IMAGES} for name in ("train", "test")},
    }
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so few steps train little is no news
        start_or_resume(config | few | {"runs": folder}, [])
        run = Path(folder) / "train" / part.file_name
        by_phase: dict[int, list[float]] = defaultdict(list)
        for line in (run / "train.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            by_phase[int(row["phase"])].append(row["seconds"] * (1 - row["data_share"]))
        summary = files.read_json(run / "summary.json", "summary")
    num_images = dataset["test"]["num_images"] + config["num_calibration_images"]
    each = (summary["seconds"] - summary["train_seconds"]) / (2 * 2 * _NUM_IMAGES)  # two subnets were scored
    images = build(few["dataset"], "train")
    began = time.perf_counter()
    for index in range(_NUM_IMAGES):
        images[index]
    image_seconds = (time.perf_counter() - began) / _NUM_IMAGES
    # The first step of a phase meets new shapes, which takes longer than they will in the long run.
    step_seconds = tuple(statistics.median(by_phase[i][1:]) for i in range(len(phases)))
    return Pace(step_seconds, image_seconds, each * num_images)
