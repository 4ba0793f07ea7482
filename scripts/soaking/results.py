"""Reads what the commands of a cycle wrote: results, checkpoints, and repeated work."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from search.optuna_backend.journal import open_journal
from subnet_export.model import load_model
from supernet.checkpoints import container
from supernet.errors import UserError
from supernet.io import jsonl
from supernet.training import run_folder

TRAIN_LOG = "train/run/train.jsonl"
CACHE = "cache/scores/*.jsonl"
CHECKPOINTS = {"train": "train/run/checkpoint.pt", "finetune": "tuned.checkpoint.pt"}
"""Checkpoint by stage; the previous one is kept beside it."""


def weights_digest(path: Path) -> str:
    """Return the SHA-256 of the names and values of all tensors of a supernet's file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(container.load(path, "supernet")["state"].items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def has_summary(folder: str) -> Callable[[Path], bool]:
    """A function that returns whether ``folder`` of a cycle contains a summary."""
    return lambda cycle: (cycle / folder / "summary.json").exists()


def trained(cycle: Path) -> dict[str, Any]:
    """The result of training: digest of the weights, subnets' APs, and the log without times."""
    folder = cycle / "train" / "run"
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text("utf-8").splitlines()]
    log = {str(row["step"]): {k: v for k, v in row.items() if k not in ("seconds", "data_share")} for row in rows}
    return {
        "weights": weights_digest(folder / "supernet.pt"),
        "subnets": _read(folder / "summary.json")["subnets"],
        "log": log,
    }


def searched(cycle: Path) -> dict[str, Any]:
    """The result of the evolutionary search."""
    folder = cycle / "evolve" / "run"
    arch, summary = _read(folder / "arch.json"), _read(folder / "summary.json")
    arch["meta"].pop("supernet")
    final = {key: summary[key] for key in ("chosen", "baseline")}
    return {"arch": arch, "candidates": _read(folder / "candidates.json"), **final}


def searched_by_optuna(cycle: Path) -> dict[str, Any]:
    """The part that does not depend on the order of evaluations: their number, and the score of each distinct arch."""
    rows = _read(cycle / "optuna_search" / "latest" / "candidates.json")
    scores = {row["digest"]: row["metrics"] for row in rows}
    return {"evaluations": len(rows), "distinct": len(scores), "scores": scores}


def exported(folder: str) -> Callable[[Path], dict[str, Any]]:
    """A function that returns the exported model in ``folder`` of a cycle: digest of its weights, description."""

    def result(cycle: Path) -> dict[str, Any]:
        weights = hashlib.sha256((cycle / folder / "weights.pt").read_bytes()).hexdigest()
        return {"weights": weights, "description": _read(cycle / folder / "model.json")}

    return result


def predicted(cycle: Path) -> dict[str, Any]:
    """The predicted people."""
    return {"people": (cycle / "predicted" / "people.jsonl").read_text("utf-8")}


def differences(reference: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    """Return the differences from the undisturbed result; scores are compared for archs that both contain."""
    expected, actual = dict(reference), dict(result)
    if "scores" in expected:
        both = expected["scores"].keys() & actual["scores"].keys()
        for value in (expected, actual):
            value["scores"] = {digest: value["scores"][digest] for digest in both}
    return run_folder.differences(expected, actual)


def good_step(cycle: Path, stage: str) -> int | None:
    """Return the step of the newest readable checkpoint of ``stage``; None if there are no checkpoints.

    Raises:
        UserError: There are checkpoints, but none can be read.
    """
    path = cycle / CHECKPOINTS[stage]
    kind, part = ("training", "trainer") if stage == "train" else ("fine-tuning", "training")
    last_error = None
    for checkpoint in (path, container.previous_of(path)):
        if checkpoint.exists():
            try:
                return int(container.load(checkpoint, kind)[part]["step"])
            except UserError as error:
                last_error = error
    if last_error is not None:
        raise last_error
    return None


def logged_steps(cycle: Path) -> int:
    """Return the number of steps in the training log."""
    path = cycle / TRAIN_LOG
    lines = path.read_bytes().splitlines() if path.exists() else []
    return max((json.loads(line)["step"] + 1 for line in lines if line.endswith(b"}")), default=0)


def is_good(path: Path, stage: str) -> bool:
    """Whether a checkpoint of ``stage`` can be read."""
    try:
        container.load(path, "training" if stage == "train" else "fine-tuning")
    except UserError:
        return False
    return True


def model_error(folder: Path) -> str:
    """Return the error of reading the exported model in ``folder``; empty if it can be read."""
    try:
        load_model(folder)
    except UserError as error:
        return str(error)
    return ""


def num_repeated_scores(cycle: Path) -> int:
    """Return the number of lines in the score caches that repeat the arch of an earlier line."""
    num_repeated = 0
    for path in cycle.glob(CACHE):
        archs = [json.dumps(row["arch"]) for row in jsonl.read_whole_lines(path, "score cache") if "arch" in row]
        num_repeated += len(archs) - len(set(archs))
    return num_repeated


def num_failed_trials(cycle: Path) -> int:
    """Return the number of Optuna's trials that started and have no score."""
    storage = JournalStorage(open_journal(cycle / "study.journal"))
    study = optuna.load_study(study_name="search", storage=storage)
    return sum(trial.state == TrialState.FAIL for trial in study.get_trials(deepcopy=False))
