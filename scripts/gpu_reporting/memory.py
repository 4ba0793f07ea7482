"""Section: the peak memory of training steps beside what is predicted without running them."""

from dataclasses import replace
from typing import Any

import torch

from scripts.gpu_reporting.bench import steps_of, trainer_of
from scripts.gpu_reporting.context import Context
from scripts.gpu_reporting.steps import precision_of
from supernet.compute.live_memory import LiveMemory
from supernet.compute.precision import Precision, tf32
from supernet.errors import UserError

NEEDED_SECONDS = 12.0
"""No row is begun with less time left."""


def memory(context: Context) -> dict[str, Any]:
    """Measure and predict a sandwich step of every space at every size, in bfloat16 and float32."""
    rows: list[dict[str, Any]] = []
    context.keep({"rows": rows})
    for size, batch_size in context.effort.batches.items():
        for space in context.effort.spaces:
            for name in context.effort.formats:
                if name == "tf32" or (context.is_gpu and context.seconds_left() < NEEDED_SECONDS):
                    continue
                precision = precision_of(name)
                row: dict[str, Any] = {"space": space, "size": size, "batch": batch_size, "format": name}
                rows.append(row)
                row["predicted_mib"] = round(predicted_bytes(context, space, size, batch_size, precision) / 2**20)
                if context.is_gpu:
                    try:
                        measured = measured_bytes(context, space, size, batch_size, precision)
                        row["measured_mib"] = round(measured / 2**20)
                        row["predicted_share"] = round(row["predicted_mib"] / row["measured_mib"], 3)
                    except (torch.OutOfMemoryError, UserError) as error:
                        row["error"] = " ".join(str(error).split())[:200]
                context.free_memory()
                context.keep({})
    return {"rows": rows}


def measured_bytes(context: Context, space: str, size: int, batch_size: int, precision: Precision) -> int:
    """Return the most bytes that PyTorch's allocator has handed out in a few sandwich steps."""
    before = torch.cuda.memory_allocated(context.device)
    torch.cuda.reset_peak_memory_stats(context.device)
    trainer = trainer_of(context, space, size, batch_size, 2, 0, precision=precision)
    (scheduled,) = trainer.scheduled
    with tf32(allowed=True):
        for batch in steps_of(trainer):
            trainer.train_step(scheduled, batch, 0.0)
    context.synchronise()
    return int(torch.cuda.max_memory_allocated(context.device)) - before


def predicted_bytes(context: Context, space: str, size: int, batch_size: int, precision: Precision) -> int:
    """Return the same of one step on the device "meta"."""
    on_meta = replace(context, device=torch.device("meta"))
    with LiveMemory("meta") as live:
        trainer = trainer_of(on_meta, space, size, batch_size, 1, 0, precision=precision)
        trainer.settings = replace(trainer.settings, fixed_shapes=True)  # as on a GPU
        (scheduled,) = trainer.scheduled
        before = live.current  # templates have no weights, see supernet.training.planning.memory
        trainer.supernet.templates(replace(trainer.supernet.space.largest(), resolution=size), training=True)
        uncounted = live.current - before
        for batch in steps_of(trainer):
            trainer.train_step(scheduled, batch, 0.0)
    return int(live.peak - uncounted)
