"""What the commands of a cycle left behind: their results, checkpoints, and work done twice."""

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
"""Files of which the one before is kept, by stage."""


def weights_digest(path: Path, kind: str = "supernet") -> str:
    """Return the SHA-256 of all tensors in a file of ours, with their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(container.load(path, kind)["state"].items()):
        found.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def has_summary(folder: str) -> Callable[[Path], bool]:
    return lambda cycle: (cycle / folder / "summary.json").exists()


def trained(cycle: Path) -> dict[str, Any]:
    folder = cycle / "train" / "run"
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text("utf-8").splitlines()]
    log = {str(row["step"]): {k: v for k, v in row.items() if k not in ("seconds", "data_share")} for row in rows}
    return {
        "weights": weights_digest(folder / "supernet.pt"),
        "subnets": _read(folder / "summary.json")["subnets"],
        "log": log,
    }


def searched(cycle: Path) -> dict[str, Any]:
    folder = cycle / "evolve" / "run"
    arch, summary = _read(folder / "arch.json"), _read(folder / "summary.json")
    arch["meta"].pop("supernet")
    told = {key: summary[key] for key in ("chosen", "baseline")}
    return {"arch": arch, "candidates": _read(folder / "candidates.json"), **told}


def searched_by_optuna(cycle: Path) -> dict[str, Any]:
    """What any order of evaluations comes to: how many there are, none twice, and each arch's one score."""
    rows = _read(cycle / "optuna_search" / "latest" / "candidates.json")
    scores = {row["digest"]: row["metrics"] for row in rows}
    return {"evaluations": len(rows), "distinct": len(scores), "scores": scores}


def exported(folder: str) -> Callable[[Path], dict[str, Any]]:
    def result(cycle: Path) -> dict[str, Any]:
        weights = hashlib.sha256((cycle / folder / "weights.pt").read_bytes()).hexdigest()
        return {"weights": weights, "description": _read(cycle / folder / "model.json")}

    return result


def predicted(cycle: Path) -> dict[str, Any]:
    return {"people": (cycle / "predicted" / "people.jsonl").read_text("utf-8")}


def differences(reference: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return what a result has otherwise than the undisturbed one; of scores only those of archs that both scored."""
    expected, got = dict(reference), dict(found)
    if "scores" in expected:
        both = expected["scores"].keys() & got["scores"].keys()
        for value in (expected, got):
            value["scores"] = {digest: value["scores"][digest] for digest in both}
    return run_folder.differences(expected, got)


def good_step(cycle: Path, stage: str) -> int | None:
    """Return the step of the newest checkpoint of ``stage`` that can be read; None if there was never one.

    Raises:
        UserError: There are checkpoints, and none can be read.
    """
    path = cycle / CHECKPOINTS[stage]
    kind, part = ("training", "trainer") if stage == "train" else ("fine-tuning", "training")
    error = None
    for each in (path, container.previous_of(path)):
        if each.exists():
            try:
                return int(container.load(each, kind)[part]["step"])
            except UserError as found:
                error = found
    if error is not None:
        raise error
    return None


def logged_steps(cycle: Path) -> int:
    """Return how many steps the log of the training tells of."""
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


def model_complaints(folder: Path) -> str:
    """Return why the exported model in ``folder`` cannot be read; empty if it can."""
    try:
        load_model(folder)
    except UserError as error:
        return str(error)
    return ""


def num_repeated_scores(cycle: Path) -> int:
    """Return how many lines of the score caches are of an arch that a line before has a score of."""
    found = 0
    for path in cycle.glob(CACHE):
        archs = [json.dumps(row["arch"]) for row in jsonl.read_whole_lines(path, "score cache") if "arch" in row]
        found += len(archs) - len(set(archs))
    return found


def num_failed_trials(cycle: Path) -> int:
    """Return how many of Optuna's trials were begun and have no score."""
    storage = JournalStorage(open_journal(cycle / "study.journal"))
    study = optuna.load_study(study_name="search", storage=storage)
    return sum(trial.state == TrialState.FAIL for trial in study.get_trials(deepcopy=False))
