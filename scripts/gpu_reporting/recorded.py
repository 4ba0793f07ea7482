"""Section: training steps whose passes are recorded as CUDA graphs, beside the same steps without."""

from typing import Any

from scripts.gpu_reporting.bench import steps_of, trainer_of
from scripts.gpu_reporting.context import Context
from scripts.gpu_reporting.throughput import SIZE, measure
from supernet.compute.precision import tf32

COMPARED_STEPS = 6
NEEDED_SECONDS = 20.0
"""No space is begun with less time left."""


def recorded(context: Context) -> dict[str, Any]:
    """Compare losses with and without recordings for a few steps, then measure steps with them, with data on.

    Raises:
        ExceptionGroup: Some spaces could not be measured; the others were.
    """
    if not context.is_gpu:
        return {"left_out": "CUDA graphs need a GPU"}
    spaces: dict[str, Any] = {}
    errors: list[Exception] = []
    context.keep({"spaces": spaces})
    for space in reversed(context.effort.spaces):  # the one that waits most for launches first
        if context.seconds_left() < NEEDED_SECONDS:
            spaces[space] = {"left_out": f"{context.seconds_left():.0f} s left"}
            continue
        spaces[space] = figures = {}
        try:
            for name in ("float32", "auto"):
                figures[f"losses_{name}"] = losses_beside(context, space, name)
                context.keep({})
                context.free_memory()
            measure(context, space, SIZE, figures, cuda_graphs=True)
        except Exception as error:  # noqa: BLE001 - one space must not cost the figures of another
            errors.append(error)
        context.keep({})
        context.free_memory()
    if errors:
        raise ExceptionGroup("not every space could be measured", errors)
    return {"spaces": spaces}


def losses_beside(context: Context, space: str, precision: Any) -> list[dict[str, float]]:
    """Return the loss of each of the first steps without and with recordings, and their relative difference."""
    losses: list[list[float]] = []
    for cuda_graphs in (False, True):
        trainer = trainer_of(
            context, space, SIZE, context.effort.batches[SIZE], COMPARED_STEPS, 0, cuda_graphs, precision
        )
        (scheduled,) = trainer.scheduled
        with tf32(allowed=precision != "float32"):
            reports = [trainer.train_step(scheduled, batch, 0.0) for batch in steps_of(trainer)]
        losses.append([float(sum(float(own.total) for own in report.losses)) for report in reports])
        del trainer, reports
        context.free_memory()
    return [
        {"direct": direct, "recorded": other, "relative_difference": abs(other - direct) / abs(direct)}
        for direct, other in zip(*losses, strict=True)
    ]
