"""What a fine-tuning run starts from, and what it keeps when it is resumed."""

import argparse
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from subnet_export.ap_measurement import at_root
from subnet_export.exported_model import ExportedModel, costs
from subnet_export.finetuning.new_heads import with_new_heads
from subnet_export.finetuning.trainer import AUGMENTATIONS, FineTuning
from subnet_export.model import load_model
from supernet.checkpoints import container
from supernet.cli.console import CONSOLE
from supernet.cli.hydra_app import dataset_config
from supernet.errors import UserError
from supernet.litepose import LitePose, in_channels_last
from supernet.pose.keypoints import KeypointSet

CHECKPOINT_SUFFIX = ".checkpoint.pt"
"""Of a run's checkpoint, which lies beside the folder that the run will write in the end."""


@dataclass(frozen=True)
class FinetunePlan:
    """What decides a run's result.

    Attributes:
        folder: Of the result.
        is_default_folder: Whether ``latest`` beside it is to point to it.
        model: Folder of the exported model to start from.
        teacher: Exported model or supernet to distil from.
        dataset: Description of the data set (:func:`supernet.pose.datasets.build`).
        from_scratch: Start from random weights.
        settings: How to train.
        eval_batch_size: Images per pass when measuring.
        num_images: Measure on this many images of each split; all if None.
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
    """Return the plan that a command line asks for.

    Raises:
        UserError: There is no such model or data set.
    """
    place = Path(options.model or Path(options.runs) / "export" / "latest")
    if options.dataset is not None:
        dataset = dataset_config(options.dataset, options.overrides)
    elif options.overrides:
        raise UserError(f"{options.overrides[0]} changes no data set; name one with --dataset")
    else:
        dataset = load_model(place).dataset
    return FinetunePlan(
        str(options.folder),
        options.is_default_folder,
        str(place.resolve()),
        None if options.teacher is None else str(Path(options.teacher).resolve()),
        at_root(dataset, options.dataset_root),
        bool(options.from_scratch),
        FineTuning(
            options.steps,
            options.batch_size,
            options.learning_rate,
            options.distillation_weight,
            options.seed,
            augmentation=AUGMENTATIONS[options.augmentation or "light"],
        ),
        options.eval_batch_size,
        options.num_images,
        options.checkpoint_every,
    )


def checkpoint_to_resume(options: argparse.Namespace) -> Path:
    """Return the checkpoint that ``--resume`` names.

    Raises:
        UserError: "latest" is asked for, but there is none.
    """
    if options.resume != "latest":
        return Path(options.resume)
    folder = Path(options.runs) / "finetune"
    # The previous one is alone where a run was killed between two renames.
    suffixes = (CHECKPOINT_SUFFIX, container.previous_of(CHECKPOINT_SUFFIX).name)
    found = {
        path: path.with_name(path.name.removesuffix(suffix) + CHECKPOINT_SUFFIX)
        for suffix in suffixes
        for path in folder.glob(f"*{suffix}")
    }
    if not found:
        raise UserError(f"there is no checkpoint of a stopped run in {folder}; name one with --resume or start anew")
    return found[max(found, key=lambda path: path.stat().st_mtime)]


def starting_model(
    plan: FinetunePlan, keypoints: KeypointSet, device: torch.device
) -> tuple[ExportedModel, ExportedModel]:
    """Read the plan's model and make of it what training starts from; what is changed is printed.

    Args:
        plan: Names the model.
        keypoints: What the data set is annotated with.
        device: Where to put the networks.

    Returns:
        The model as it was exported, and as training starts: the same value, or one with new last layers or random
        weights, whose batch-norm statistics then have to be calibrated.
    """
    model = load_model(plan.model, device)
    start = replace(model, dataset=plan.dataset)
    seed = plan.settings.seed
    if keypoints != model.keypoints:
        network, kept = with_new_heads(model.network, model.keypoints, keypoints, seed)
        start = replace(
            start,
            network=network,
            keypoints=keypoints,
            objective=replace(model.objective, num_keypoints=keypoints.num),
            costs=costs(model.arch, keypoints.num),
        )
        fresh = [name for name in keypoints.names if name not in kept]
        if not plan.from_scratch:
            _tell(
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
        _tell(f"from scratch: every weight of {plan.model} is replaced by a random one")
    return model, start


def digest(network: LitePose) -> str:
    """Return a digest of all weights and statistics of ``network``."""
    found = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        found.update(name.encode())
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _tell(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
