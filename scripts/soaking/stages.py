"""The commands of one cycle at the smallest useful size: their options, files and results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scripts.soaking import results
from scripts.soaking.faults import CUT, FLIP, GARBAGE
from scripts.soaking.images import DATASET, write_images
from scripts.soaking.results import CACHE, CHECKPOINTS, TRAIN_LOG
from supernet.checkpoints import container
from supernet.io import files

SPACE = {
    "name": "soak",
    "resolutions": [64, 96],
    "stem_widths": [8],
    "stages": [
        {"widths": [8], "depths": [1], "stride": 2, "expand_ratios": [2], "kernel_sizes": [3, 5]},
        {"widths": [8, 16], "depths": [1], "stride": 2, "expand_ratios": [2], "kernel_sizes": [3]},
        {"widths": [16], "depths": [1, 2], "stride": 2, "expand_ratios": [2], "kernel_sizes": [3, 5]},
        {"widths": [16, 24], "depths": [1], "stride": 1, "expand_ratios": [2, 3], "kernel_sizes": [3]},
    ],
    "deconv_widths": [[8], [8], [8]],
}
NUM_STEPS, CHECKPOINT_STEPS = 72, 4
NUM_FINETUNE_STEPS, FINETUNE_CHECKPOINT_STEPS = 16, 3
NUM_EVALUATIONS = 9
EXPERIMENT = {
    "space": SPACE,
    "steps": NUM_STEPS,
    "batch_size": 2,
    "log_every": 1,
    "checkpoint_every": CHECKPOINT_STEPS,
    "num_calibration_images": 4,
    "report_random": 1,
    "threads": 1,
    "device": "cpu",
    "name": "run",
    "evaluation": {"detection_threshold": 0.02},  # barely trained networks have low confidence
}
TEXT = (FLIP, CUT, GARBAGE)
BINARY = (FLIP, CUT)
"""Kinds of damage to text and to binary files; checksums protect both."""
SEARCH = (
    "num_calibration_images=4",
    "batch_size=4",
    "num_images=4",
    "top_k=2",
    "baseline=2",
    "threads=1",
    "device=cpu",
)


@dataclass(frozen=True)
class Stage:
    """One command, repeated until it has completed.

    Attributes:
        name: Name of the stage.
        command: Arguments that start or resume it in a cycle's folder; the flag asks to resume the latest run.
        output: Its output folder, relative to the cycle's folder.
        is_done: Whether the output is complete.
        damageable: Patterns of files that may be damaged beforehand, relative to the cycle's folder; kinds of damage.
        temporary: Files or folders whose writers may leave temporary files.
        progress_files: Patterns of files that change as the work progresses.
        result: Reads its result as plain values, equal to those of an undisturbed run.
    """

    name: str
    command: Callable[[Path, bool], list[str]]
    output: str
    is_done: Callable[[Path], bool]
    damageable: Mapping[str, tuple[str, ...]]
    temporary: tuple[str, ...]
    progress_files: tuple[str, ...]
    result: Callable[[Path], dict[str, Any]]


def write_experiment(folder: Path) -> None:
    """Write images and training options to ``folder``, as an experiment that Hydra finds there."""
    root = folder / "images"
    write_images(root)
    text = "# @package _global_\n" + yaml.safe_dump({**EXPERIMENT, "dataset": {**DATASET, "root": str(root)}})
    files.write_text(folder / "experiment" / "soak.yaml", text)


def _train(cycle: Path, as_latest: bool) -> list[str]:
    if as_latest and (cycle / "train" / "latest").is_dir():
        return ["-m", "supernet.train", f"runs={cycle}", "resume=latest"]
    options = [f"--config-dir={cycle.parent}", "dataset=custom", "experiment=soak", f"runs={cycle}"]
    return ["-m", "supernet.train", *options, "resume=auto"]


def _evolve(cycle: Path, as_latest: bool) -> list[str]:
    folder = cycle / "evolve" / "run"
    if as_latest and (cycle / "evolve" / "latest").is_dir():
        return ["-m", "search.evolve", f"runs={cycle}", "resume=latest"]
    if folder.exists():
        return ["-m", "search.evolve", f"resume={folder}"]
    options = [f"runs={cycle}", f"supernet={cycle / 'train' / 'run'}", "population=3", "generations=3", "name=run"]
    return ["-m", "search.evolve", *options, *SEARCH]


def _optuna(cycle: Path, _: bool) -> list[str]:
    place = [f"runs={cycle}", f"supernet={cycle / 'train' / 'run'}", f"storage={cycle / 'study.journal'}"]
    options = [f"evaluations={NUM_EVALUATIONS}", "startup=4", "cache=null"]
    return ["-m", "search.optuna_search", *place, *options, *SEARCH]


def _export(cycle: Path, _: bool) -> list[str]:
    sources = [f"--arch={cycle / 'evolve' / 'run' / 'arch.json'}", f"--supernet={cycle / 'train' / 'run'}"]
    options = ["--calibration-images=4", "--batch-size=4", "--check-images=4", "--threads=1", "--device=cpu"]
    return ["-m", "subnet_export", *sources, f"--output={cycle / 'model'}", *options]


def _finetune(cycle: Path, _: bool) -> list[str]:
    output = cycle / "tuned"
    command = ["-m", "subnet_export.finetune", "--threads=1", "--device=cpu"]
    checkpoint = Path(f"{output}.checkpoint.pt")
    if checkpoint.exists() or container.previous_of(checkpoint).exists():
        return [*command, f"--resume={checkpoint}"]
    steps = [f"--steps={NUM_FINETUNE_STEPS}", f"--checkpoint-every={FINETUNE_CHECKPOINT_STEPS}", "--batch-size=2"]
    return [*command, f"--model={cycle / 'model'}", f"--output={output}", *steps, "--num-images=4"]


def _predict(cycle: Path, _: bool) -> list[str]:
    options = ["--dataset-index=1", "--min-score=0", "--threads=1", "--device=cpu"]
    return ["-m", "subnet_export.predict", f"--model={cycle / 'model'}", f"--output={cycle / 'predicted'}", *options]


MODEL_FILES = {"model/model.json": TEXT, "model/weights.pt": BINARY}
SUPERNET = {"train/run/supernet.pt": BINARY}

STAGES = (
    Stage(
        "train",
        _train,
        "train/run",
        results.has_summary("train/run"),
        {
            CHECKPOINTS["train"]: BINARY,
            "train/run/checkpoint.previous.pt": BINARY,
            "train/run/config.json": TEXT,
            TRAIN_LOG: TEXT,
            "train/run/events*": BINARY,
        },
        ("train/run/checkpoint.pt", "train/run/config.json", "train/run/train.jsonl"),
        ("train/run/checkpoint.pt", TRAIN_LOG),
        results.trained,
    ),
    Stage(
        "evolve",
        _evolve,
        "evolve/run",
        results.has_summary("evolve/run"),
        {"evolve/run/state.json": TEXT, "evolve/run/scores.jsonl": TEXT, CACHE: TEXT, **SUPERNET},
        ("evolve/run/state.json", "evolve/run/candidates.json"),
        ("evolve/run/state.json", "evolve/run/scores.jsonl", CACHE),
        results.searched,
    ),
    Stage(
        "optuna",
        _optuna,
        "optuna_search/latest",
        results.has_summary("optuna_search/latest"),
        # No flipped bits: Optuna's format has no checksum, so a flipped bit in a digit cannot be detected.
        {"study.journal": (CUT, GARBAGE), **SUPERNET},
        ("optuna_search/latest",),
        ("study.journal",),
        results.searched_by_optuna,
    ),
    Stage(
        "export",
        _export,
        "model",
        results.has_summary("model"),
        {"evolve/run/arch.json": TEXT, **SUPERNET},
        ("model",),
        (".model.tmp*/*",),
        results.exported("model"),
    ),
    Stage(
        "finetune",
        _finetune,
        "tuned",
        results.has_summary("tuned"),
        {CHECKPOINTS["finetune"]: BINARY, "tuned.checkpoint.previous.pt": BINARY, **MODEL_FILES},
        ("tuned.checkpoint.pt", "tuned"),
        (CHECKPOINTS["finetune"],),
        results.exported("tuned"),
    ),
    Stage(
        "predict",
        _predict,
        "predicted",
        results.has_summary("predicted"),
        MODEL_FILES,
        (),
        ("predicted/*",),
        results.predicted,
    ),
)
