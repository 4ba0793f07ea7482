"""Sections: a short training with its losses, and the same training stopped half way and resumed."""

import json
from pathlib import Path
from typing import Any

from scripts.gpu_reporting.commands import CommandFailed, checked, python, tail
from scripts.gpu_reporting.context import Context
from scripts.gpu_reporting.throughput import seconds_per_step

SPACE, SIZE = "nano", 144
"""The space of the short training, and its middle resolution."""
NUM_SHOWN = 12
"""Lines of the loss curve in the report."""
REPORTED_IMAGES = 2
"""Images that the report at the end of the two trainings of the section ``resume`` takes: their losses matter."""
RESUMED_SHARE = 0.15
"""Length of the two trainings of the section ``resume``, relative to the short training."""
START_SECONDS = 120.0
"""What starting a process, loading images and the report at the end of a training may take at most."""
COMPARED = ("total", "heatmap", "push", "pull", "gradient_norm")


def training(context: Context) -> dict[str, Any]:
    """Train for about ``train_seconds``, and return the losses on the way."""
    step_seconds = seconds_per_step(context, SPACE, SIZE, context.effort.train_batch, 3 * context.effort.repeats)
    num_steps = max(
        context.effort.least_steps, int(min(context.effort.train_seconds, context.seconds_left() / 2) / step_seconds)
    )
    context.short_step_seconds = step_seconds
    figures: dict[str, Any] = {"measured_step_ms": round(1e3 * step_seconds, 2), "steps": num_steps}
    context.keep(figures)
    folder = context.work / "train" / "short"
    arguments = [*_arguments(context, num_steps), f"log_every={max(1, num_steps // 50)}", "name=short"]
    limit = max(context.seconds_left(), 1.5 * context.effort.train_seconds)
    finished = checked("supernet.train", arguments, context.work / "training.log", limit)
    context.trained = folder
    rows, summary = log_rows(folder), json.loads((folder / "summary.json").read_text("utf-8"))
    shown = [*rows[: -1 : max(1, len(rows) // NUM_SHOWN)], rows[-1]]
    return figures | {
        "command": f"python -m supernet.train {' '.join(arguments)}",
        "process_seconds": round(finished.seconds, 1),
        "train_seconds": summary["train_seconds"],
        "images_per_second": summary["images_per_second"],
        "losses": [{key: row[key] for key in ("step", "total", "heatmap", "data_share")} for row in shown],
        "subnets": [{"subnet": row["subnet"], "AP": row["metrics"]["AP"]} for row in summary["subnets"]],
    }


def resume(context: Context) -> dict[str, Any]:
    """Train without a stop; train the same with a SIGTERM half way, resume, and compare the losses of every step."""
    step_seconds = context.short_step_seconds or seconds_per_step(
        context, SPACE, SIZE, context.effort.train_batch, context.effort.repeats
    )
    num_steps = max(context.effort.least_steps, int(RESUMED_SHARE * context.effort.train_seconds / step_seconds))
    arguments = [*_arguments(context, num_steps), "log_every=1"]
    arguments += [f"dataset.test.num_images={REPORTED_IMAGES}", f"num_calibration_images={REPORTED_IMAGES}"]
    checked("supernet.train", [*arguments, "name=whole"], context.work / "whole.log", _limit(context))
    whole, halved = context.work / "train" / "whole", context.work / "train" / "halved"
    context.trained = context.trained or whole

    def is_half() -> bool:
        return len(log_rows(halved)) >= num_steps // 2

    log = context.work / "halved.log"
    stopped = python("supernet.train", [*arguments, "name=halved"], log, _limit(context), is_half)
    if stopped.status != 2 or (halved / "summary.json").exists():
        raise CommandFailed(f"the training ended with {stopped.status} instead of stopping half way\n{tail(log)}")
    num_before = len(log_rows(halved))
    again = [f"resume={halved}", f"device={context.device}", f"runs={context.work}"]
    checked("supernet.train", again, context.work / "resumed.log", _limit(context))
    return {"steps": num_steps, "stopped_after": num_before} | compared(log_rows(whole), log_rows(halved), num_before)


def compared(whole: list[dict[str, Any]], resumed: list[dict[str, Any]], num_before: int) -> dict[str, Any]:
    """Return whether the logs of two trainings are equal to the bit, and else how far they differ.

    Steps before the stop differ only if the device does not repeat itself: two runs then differ without a stop, too.
    """
    if [row["step"] for row in whole] != [row["step"] for row in resumed]:
        raise CommandFailed(f"the resumed training logged {len(resumed)} steps, the uninterrupted one {len(whole)}")
    differs = [any(a[key] != b[key] for key in COMPARED) for a, b in zip(whole, resumed, strict=True)]
    relative = [abs(a["total"] - b["total"]) / abs(a["total"]) for a, b in zip(whole, resumed, strict=True)]
    return {
        "equal_to_the_bit": not any(differs),
        "first_step_that_differs": differs.index(True) if any(differs) else None,
        "largest_relative_difference_before_the_stop": max(relative[:num_before], default=0.0),
        "largest_relative_difference_after_it": max(relative[num_before:], default=0.0),
        "last_losses": [whole[-1]["total"], resumed[-1]["total"]],
    }


def log_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a training's log; none while there is no log."""
    path = folder / "train.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _limit(context: Context) -> float:
    """Return the time that one training of the section ``resume`` may take."""
    return max(context.seconds_left(), RESUMED_SHARE * context.effort.train_seconds + START_SECONDS / 4)


def _arguments(context: Context, num_steps: int) -> list[str]:
    effort = context.effort
    return [
        f"space={SPACE}",
        "phases=sandwich",
        f"steps={num_steps}",
        f"batch_size={effort.train_batch}",
        f"device={context.device}",
        f"num_workers={effort.workers if context.is_gpu else 0}",
        f"dataset.train.num_images={effort.train_images}",
        f"dataset.val.num_images={effort.test_images}",
        f"dataset.test.num_images={effort.test_images}",
        f"num_calibration_images={min(128, effort.train_images)}",
        "report_random=0",
        f"runs={context.work}",
    ]
