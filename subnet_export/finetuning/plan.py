"""The plan of a fine-tuning run, which a resumed run keeps, and the model that it starts from."""

import argparse
import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from subnet_export.ap_measurement import at_root, named_dataset
from subnet_export.exported_model import ExportedModel
from subnet_export.finetuning.new_heads import with_new_heads
from subnet_export.finetuning.trainer import AUGMENTATIONS, FineTuning
from subnet_export.model import load_model
from supernet.checkpoints import container
from supernet.checkpoints.pretrained import located
from supernet.costs.analytic import params_and_macs
from supernet.errors import UserError
from supernet.litepose import LitePose, in_channels_last
from supernet.pose.keypoint_names import sources_of
from supernet.pose.keypoints import KeypointSet

CHECKPOINT_SUFFIX = ".checkpoint.pt"
"""Ends the name of a run's checkpoint, which is beside the folder of the result."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinetunePlan:
    """Everything that affects a run's result, and where it is written.

    Attributes:
        folder: Folder of the result.
        is_default_folder: Whether to point ``latest`` beside it to it.
        model: Folder of the exported model to start from.
        teacher: Exported model or supernet to distil from.
        dataset: Description of the data set (:func:`supernet.pose.datasets.build`).
        from_scratch: Start from random weights.
        settings: Settings of the training.
        eval_batch_size: Images per pass when measuring.
        num_images: Images of each split to measure on; None for all.
        checkpoint_every: Steps between checkpoints.
    """

    folder: str
    is_default_folder: bool
    model: str
    teacher: str | None
    dataset: dict[str, Any]
    from_scratch: bool
    settings: FineTuning
    eval_batch_size: int
    num_images: int | None
    checkpoint_every: int

    @property
    def checkpoint(self) -> Path:
        """File of the run's checkpoint."""
        return Path(self.folder + CHECKPOINT_SUFFIX)


def plan_from(options: argparse.Namespace) -> FinetunePlan:
    """Return the plan of a command line.

    Raises:
        UserError: There is no such model or data set.
    """
    model = located(options.model or Path(options.runs) / "export" / "latest")
    dataset = named_dataset(options) or load_model(model).dataset
    return FinetunePlan(
        folder=str(options.folder),
        is_default_folder=options.is_default_folder,
        model=str(model.resolve()),
        teacher=None if options.teacher is None else str(located(options.teacher).resolve()),
        dataset=at_root(dataset, options.dataset_root),
        from_scratch=bool(options.from_scratch),
        settings=FineTuning(
            num_steps=options.steps,
            batch_size=options.batch_size,
            peak_rate=options.learning_rate,
            distillation_weight=options.distillation_weight,
            seed=options.seed,
            augmentation=AUGMENTATIONS[options.augmentation or "light"],
        ),
        eval_batch_size=options.eval_batch_size,
        num_images=options.num_images,
        checkpoint_every=options.checkpoint_every,
    )


def checkpoint_to_resume(options: argparse.Namespace) -> Path:
    """Return the checkpoint that ``--resume`` names: a file, ``latest``, or a run in the folder of all runs.

    Raises:
        UserError: It names "latest", and there is none.
    """
    folder = Path(options.runs) / "finetune"
    if options.resume != "latest":
        by_name = folder / (options.resume + CHECKPOINT_SUFFIX)
        is_name = Path(options.resume).name == options.resume and by_name.exists()
        return by_name if is_name else Path(options.resume)
    # A run that was killed between two renames has only the previous checkpoint.
    suffixes = (CHECKPOINT_SUFFIX, container.previous_of(CHECKPOINT_SUFFIX).name)
    candidates = {
        path: path.with_name(path.name.removesuffix(suffix) + CHECKPOINT_SUFFIX)
        for suffix in suffixes
        for path in folder.glob(f"*{suffix}")
    }
    if not candidates:
        raise UserError(
            f"there is no checkpoint of a stopped run in {folder}; name one with --resume or start a new run"
        )
    return candidates[max(candidates, key=lambda path: path.stat().st_mtime)]


def starting_model(
    plan: FinetunePlan, keypoints: KeypointSet, device: torch.device
) -> tuple[ExportedModel, ExportedModel]:
    """Read the plan's model and prepare it for training; changes are logged.

    Args:
        plan: Names the model.
        keypoints: The keypoints that the data set is annotated with.
        device: Where to put the networks.

    Returns:
        The model as it was exported, and the model that training starts from: the same network, or one with new last
        layers or random weights, whose batch-norm statistics then have to be calibrated.
    """
    model = load_model(plan.model, device)
    start = replace(model, dataset=plan.dataset)
    seed = plan.settings.seed
    if keypoints.difference(model.keypoints):
        start = replace(start, keypoints=keypoints)
    sources = sources_of(keypoints.names, model.keypoints.names)
    if sources != list(range(model.keypoints.num)):
        start = replace(
            start,
            network=with_new_heads(model.network, sources, seed),
            objective=replace(model.objective, num_keypoints=keypoints.num),
            costs=params_and_macs(model.arch, keypoints.num),
        )
        named = list(zip(keypoints.names, sources, strict=True))
        kept, fresh = ([name for name, source in named if (source is None) == is_new] for is_new in (False, True))
        if not plan.from_scratch:
            logger.info(
                f"new heads: from the {model.keypoints.num} keypoints of {model.keypoints.name} to the "
                f"{keypoints.num} of {keypoints.name}; the backbone is kept, and so are the head weights of "
                f"{', '.join(kept) or 'no keypoint'}; {', '.join(fresh) or 'none'} start at random"
            )
    if plan.from_scratch:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = LitePose(model.arch, keypoints.num)
        in_channels_last(network)
        start = replace(start, network=network.to(device).eval())
        logger.info(f"from scratch: every weight of {plan.model} is replaced by a random one")
    return model, start


def digest(network: LitePose) -> str:
    """Return a digest of all weights and statistics of ``network``."""
    value = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        value.update(name.encode())
        value.update(tensor.cpu().contiguous().numpy().tobytes())
    return value.hexdigest()
