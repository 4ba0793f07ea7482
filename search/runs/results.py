"""The results of a search run as files and plain values: arch files, the front, and the figures of the summary."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.candidate import Candidate, Score
from search.report import image_results
from search.runs.evaluator import Evaluator
from search.runs.final_check import FinalCheck
from search.runs.problem import Problem
from supernet.arch import Arch
from supernet.io import files
from supernet.io.metric_values import with_null

ARCH_FILE = "arch.json"
FRONT_FILE = "front.json"
FRONT_FOLDER = "front"


def save_archs(folder: Path, finalists: Sequence[Candidate], origin: dict[str, Any], write_front: bool) -> None:
    """Write the chosen arch, the first finalist, to ``arch.json``.

    With ``write_front`` also write all finalists: ``front.json``, a list of rows by MACs, and an arch file
    ``front/<digest>.json`` for each. Other arch files there are removed: a search that was interrupted in its final
    check and resumed has measured latencies again, by which the front may be another one.
    """
    _save_arch(folder / ARCH_FILE, finalists[0], origin)
    if write_front:
        names = {f"{finalist.arch.digest()}.json" for finalist in finalists}
        for path in (folder / FRONT_FOLDER).glob("*.json"):
            if path.name not in names:
                path.unlink()
        for finalist in finalists:
            _save_arch(folder / FRONT_FOLDER / f"{finalist.arch.digest()}.json", finalist, origin)
        by_macs = sorted(finalists, key=lambda finalist: finalist.costs["macs"])
        files.write_json(folder / FRONT_FILE, with_null([finalist.row() for finalist in by_macs]))


def _save_arch(path: Path, finalist: Candidate, origin: dict[str, Any]) -> None:
    figures = {"digest": finalist.arch.digest(), "costs": finalist.costs, "ap": {"val": finalist.ap}}
    finalist.arch.save(path, origin | figures)


def save_test_score(folder: Path, test: Score) -> None:
    """Add the AP on test images to the file of the chosen arch."""
    value = files.read_json(folder / ARCH_FILE, "arch file")
    value["meta"]["ap"]["test"] = test.ap
    files.write_json(folder / ARCH_FILE, value)


def summary(check: FinalCheck, problem: Problem, archive: Sequence[Candidate]) -> dict[str, Any]:
    """Return the figures of a search as plain values."""
    chosen = check.chosen.row()
    return {
        "num_evaluations": sum(bool(candidate.scores) for candidate in archive),
        "num_scores": {"measured": problem.validation.num_measured, "reused": problem.validation.num_reused},
        "num_validation_images": len(problem.validation.images),
        "num_test_images": len(problem.test.images),
        "test_is_validation": problem.test_is_validation,
        "images": {"val": problem.validation.data_digest(), "test": problem.test.data_digest()},
        "chosen": chosen | {"metrics": {"val": chosen["metrics"], "test": check.test.metrics}},
        "finalists": [finalist.row() for finalist in check.finalists],
        "baseline": baseline_figures(check, problem),
    }


def baseline_figures(check: FinalCheck, problem: Problem) -> dict[str, Any]:
    """Return the random archs with mean, standard deviation and maximum of their AP, None where there are too few."""
    aps = [score.ap for _, score in check.baseline]
    return {
        "num": len(aps),
        "num_uniform": check.num_uniform,
        "ap_mean": statistics.mean(aps) if aps else None,
        "ap_sd": statistics.stdev(aps) if len(aps) > 1 else None,
        "ap_best": max(aps, default=None),
        "subnets": [
            {"metrics": score.metrics, "costs": problem.model.of(arch), "arch": arch.to_dict()}
            for arch, score in check.baseline
        ],
    }


def score_rows(archive: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return a row for each score; a candidate scored on several numbers of images has several rows."""
    return [replace(candidate, scores=(score,)).row() for candidate in archive for score in candidate.scores]


def image_matches(check: FinalCheck, problem: Problem, archive: Sequence[Candidate]) -> image_results.Matches:
    """Return the matches of all candidates on validation images, and those of the final check on test images."""
    candidates = [*archive, *check.finalists]
    scored = [(candidate.arch, score.num_images) for candidate in candidates for score in candidate.scores]
    tested = [(check.chosen.arch, check.test.num_images)]
    tested += [(arch, score.num_images) for arch, score in check.baseline]
    return {
        "val": _known_matches(problem.validation, scored),
        "test": _known_matches(problem.test, tested),
    }


def _known_matches(evaluator: Evaluator, scored: Iterable[tuple[Arch, int]]) -> dict[int, dict[str, str]]:
    """Return what an evaluator and its cache know of archs on numbers of images, by number and digest."""
    evaluator.read_caches()  # archs may have been scored by other workers
    found: dict[int, dict[str, str]] = {}
    for arch, num_images in scored:
        if (matches := evaluator.matches(arch, num_images)) is not None:
            found.setdefault(num_images, {})[arch.digest()] = matches
    return found
