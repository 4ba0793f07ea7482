"""Trainers to measure: of a whole space at one resolution, on images that are cached before the measurement."""

import argparse
from collections.abc import Iterator

from scripts.benchmarks.train import build_trainer
from scripts.gpu_reporting.context import Context
from supernet.pose.training.augmentation import Batch
from supernet.training.trainer import Trainer


def trainer_of(
    context: Context,
    space: str,
    size: int,
    batch_size: int,
    num_steps: int,
    workers: int,
    cuda_graphs: bool = False,
    precision: str = "auto",
) -> Trainer:
    """Return a trainer whose steps are sandwiches of ``space`` at ``size`` pixels, for ``num_steps`` steps at most."""
    options = argparse.Namespace(
        space=space,
        batch=batch_size,
        warm_up=num_steps,
        steps=0,
        workers=workers,
        precision=precision,
        cuda_graphs=cuda_graphs,
    )
    return build_trainer(options, context.device, "sandwich", size)


def steps_of(trainer: Trainer) -> Iterator[Batch]:
    """Yield the batches of all steps of a trainer's only phase."""
    (scheduled,) = trainer.scheduled
    for batch, _ in trainer.batches(scheduled):
        yield batch
