"""Train an exported network on its own, with the losses of supernet training."""

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from subnet_export.exported_model import Calibration, ExportedModel, Measurement
from subnet_export.measuring import at_root, check_measurement, measure
from subnet_export.model import load_model, save_model
from subnet_export.report import finish, prepare
from supernet import cli
from supernet.calibration import calibrate
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.optimizer import WeightAverage, learning_rate
from supernet.pose.augment import Augmentation
from supernet.pose.dataset import PoseDataset
from supernet.pose.datasets import build
from supernet.pose.geometry import normalise
from supernet.pose.kept import KeptPictures
from supernet.pose.loader import training_loader
from supernet.pose.objective import PoseObjective, to_device
from supernet.scoring import calibration_batches

AUGMENTATIONS = {
    "none": Augmentation.none(),
    "light": Augmentation(10.0, 0.85, 1.2, 0.1),
    "full": Augmentation(),
}
"""By name; short training gains most from pictures like those it is measured on, hence "light" by default."""
PICTURE_BYTES = 2**30
"""Training pictures kept in memory by each process that loads them."""


@dataclass(frozen=True)
class FineTuning:
    """How a network is trained on its own.

    Attributes:
        num_steps: Optimizer steps.
        batch_size: Pictures per step.
        peak_rate: Learning rate after the warm-up, before the cosine.
        seed: Seed of picture order and augmentation.
        num_workers: Processes that load pictures.
        clip_norm: Largest gradient norm.
        average_decay: Decay of the averaged weights, which are the result.
        augmentation: How pictures are varied.
    """

    num_steps: int
    batch_size: int = 16
    peak_rate: float = 2e-3
    seed: int = 0
    num_workers: int = 0
    clip_norm: float = 1.0
    average_decay: float = 0.998
    augmentation: Augmentation = AUGMENTATIONS["light"]


def train(
    network: LitePose,
    objective: PoseObjective,
    train_set: PoseDataset,
    settings: FineTuning,
    on_step: Callable[[int, float], None],
) -> LitePose:
    """Return a trained copy of ``network``, whose batch-norm statistics still have to be calibrated.

    Batch norm uses the batch's statistics, and the result has the averaged weights.

    Args:
        network: The start, on the device to train on; not changed.
        objective: Targets and loss.
        train_set: Pictures to train on.
        settings: Everything else.
        on_step: Called with the number of steps done and the step's loss.

    Raises:
        UserError: The loss stopped being finite.
    """
    network = copy.deepcopy(network).train()
    weights = dict(network.named_parameters())
    device = next(iter(weights.values())).device
    adam = torch.optim.Adam(weights.values(), foreach=True)
    average = WeightAverage(weights, settings.average_decay)
    resolutions = [network.arch.resolution] * settings.num_steps
    loader = training_loader(
        train_set, resolutions, settings.batch_size, settings.seed, settings.augmentation, settings.num_workers
    )
    for step, loaded in enumerate(loader):
        batch = to_device(loaded, device)
        low, high = network(normalise(batch.images))
        loss = objective.loss(low, high, objective.targets(batch)).total
        if not torch.isfinite(loss):
            raise UserError(f"the loss is not finite at step {step}; lower --learning-rate")
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights.values(), settings.clip_norm, foreach=True)
        for group in adam.param_groups:
            group["lr"] = learning_rate(step / settings.num_steps, settings.peak_rate)
        adam.step()
        adam.zero_grad(set_to_none=True)
        average.update(weights)
        on_step(step + 1, loss.item())
    network.load_state_dict({**network.state_dict(), **average.average})
    return network


def fine_tune(model: ExportedModel, train_set: PoseDataset, settings: FineTuning) -> tuple[LitePose, Calibration]:
    """Train ``model``'s network with a progress bar and calibrate it anew on as many pictures as before."""
    with cli.progress_bar() as progress:
        task = progress.add_task("fine-tuning", total=settings.num_steps, note="")

        def on_step(done: int, loss: float) -> None:
            progress.update(task, completed=done, note=f"loss {loss:.4f}")

        network = train(model.network, model.objective, train_set, settings, on_step)
    calibration = Calibration("train", min(model.calibration.num_images, len(train_set)), model.arch.resolution)
    batches = calibration_batches(
        train_set, calibration.resolution, calibration.num_images, model.settings.size_divisor
    )
    calibrate(network, (normalise(batch.to(model.device)) for batch in batches))
    return network, calibration


def run(options: argparse.Namespace) -> None:
    """Fine-tune as the command line asks; the better of before and after on the validation split is written."""
    began = time.perf_counter()
    device = prepare(options)
    model = load_model(options.model or Path(options.runs) / "export" / "latest", device)
    model = replace(model, dataset=at_root(model.dataset, options.dataset_root))
    train_set = KeptPictures(build(model.dataset, "train"), memory_bytes=PICTURE_BYTES)
    val_set, test_set = (KeptPictures(build(model.dataset, split)) for split in ("val", "test"))
    settings = FineTuning(
        options.steps,
        options.batch_size,
        options.learning_rate,
        options.seed,
        options.num_workers,
        augmentation=AUGMENTATIONS[options.augmentation],
    )

    def measured(network: LitePose, note: str) -> dict[str, Measurement]:
        return {
            split: measure(network, pictures, split, model.settings, options.eval_batch_size, options.num_images, note)
            for split, pictures in (("val", val_set), ("test", test_set))
        }

    before = measured(model.network, "before:")
    try:
        network, calibration = fine_tune(model, train_set, settings)
    except KeyboardInterrupt:
        raise UserError("stopped before the end; nothing was written, the model is as it was") from None
    after = measured(network, "after:")
    improved = after["val"].metrics["AP"] > before["val"].metrics["AP"]
    if improved:
        steps = model.origin.num_finetune_steps + settings.num_steps
        origin = replace(model.origin, num_finetune_steps=steps)
        result = replace(model, network=network, calibration=calibration, origin=origin, measurement=after["test"])
    else:
        result = replace(model, measurement=before["test"])
        cli.CONSOLE.print(
            "[bold yellow]Fine-tuning did not improve AP on the val split: the original weights are kept.[/]"
        )
    save_model(options.folder, result, lambda read: check_measurement(read, test_set, options.eval_batch_size))
    figures = {
        f"AP_{split}_{when}": round(found[split].metrics["AP"], 6)
        for split in ("val", "test")
        for when, found in (("before", before), ("after", after))
    }
    finish(
        options,
        result,
        "fine-tuned subnet" if improved else "subnet as before",
        {
            "improved": improved,
            "steps": settings.num_steps,
            **figures,
            "seconds": round(time.perf_counter() - began, 1),
        },
    )
