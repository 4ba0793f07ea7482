"""A search run: from a trained supernet to the best arch within a budget, in a run folder."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from search import report
from search.budget import Budget, CostModel
from search.evolution import Candidate, EvolutionSettings, Result, draw_fitting, evolve
from supernet import cli, files
from supernet.arch import Arch
from supernet.checkpoint import TrainedSupernet, load_supernet
from supernet.device import pick_device
from supernet.errors import UserError
from supernet.pose.dataset import PoseDataset
from supernet.pose.datasets import resolved
from supernet.pose.inference import InferenceSettings
from supernet.pose.kept import KeptPictures
from supernet.scoring import SubnetScorer, pictures_for
from supernet.settings import from_mapping
from supernet.space import SearchSpace

ARCH_FILE = "arch.json"
CANDIDATES_FILE = "candidates.json"
PICTURE_FILE = "pareto.png"
BASELINE_TRIES = 20_000


@dataclass(frozen=True)
class EvolveSettings:
    """The options of ``conf/evolve.yaml``, which documents them."""

    supernet: str
    constraint: dict[str, Any]
    population: int
    generations: int
    parent_share: float
    mutation_share: float
    mutation_rate: float
    baseline: int
    num_images: int | None
    num_calibration_images: int
    batch_size: int
    seed: int
    threads: int | None
    device: str
    runs: str
    name: str | None
    dataset: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Raise UserError for counts below what makes sense."""
        least = {"baseline": 0, "seed": 0, "num_images": 1, "num_calibration_images": 1, "batch_size": 1, "threads": 1}
        for name, limit in least.items():
            value = getattr(self, name)
            if value is not None and value < limit:
                raise UserError(f"{name} is {value}; it must be at least {limit}")

    def evolution(self) -> EvolutionSettings:
        """Return the part that concerns the evolution itself."""
        return EvolutionSettings(
            self.population, self.generations, self.parent_share, self.mutation_share, self.mutation_rate
        )


def run(config: Mapping[str, Any]) -> Path:
    """Search as configured and return the run folder.

    Every candidate is scored, calibrated, on validation pictures; the chosen one and random subnets within the same
    budget are then scored on test pictures, which took no part in the choice.

    Raises:
        UserError: A wrong option, no such supernet, or a budget that no subnet fits; all before any evaluation.
    """
    start = time.perf_counter()
    settings = from_mapping(EvolveSettings, config, "")
    evolution = settings.evolution()
    trained = load_supernet(settings.supernet)
    space, num_keypoints = trained.supernet.space, trained.keypoints.num
    budget = Budget.from_mapping(settings.constraint, CostModel(space, num_keypoints))
    budget.check_reachable()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    cv2.setNumThreads(0)
    trained.supernet.to(pick_device(settings.device))
    dataset = trained.dataset if settings.dataset is None else settings.dataset
    search_scorer, final_scorer = _scorers(trained, dataset, settings)
    folder = cli.create_run(settings.runs, "evolve", settings.name)
    cli.CONSOLE.print(
        f"searching space [bold]{space.name}[/] of {trained.path}: {budget.describe()}; writing to {folder}",
        soft_wrap=True,
    )
    search_rng, baseline_rng = np.random.default_rng(settings.seed).spawn(2)
    result, rows = _search(search_scorer, space, budget.fits_arch, evolution, search_rng, num_keypoints, folder)
    search_seconds = time.perf_counter() - start
    origin = {
        "supernet": str(trained.path.resolve()),
        "space": space.name,
        "space_digest": space.digest(),
        "keypoints": trained.keypoints.name,
        "constraint": budget.to_dict(),
        "seed": settings.seed,
    }
    best = rows[result.best.order]
    figures: dict[str, Any] = {"digest": best["digest"], "costs": best["costs"], "ap": {"val": result.best.score}}
    result.best.arch.save(folder / ARCH_FILE, origin | figures)  # at once: the final check may be interrupted
    drawn, num_uniform = draw_fitting(space, budget.fits_arch, baseline_rng, settings.baseline, BASELINE_TRIES)
    chosen, *baseline = _check(final_scorer, [result.best.arch, *drawn])
    check = report.FinalCheck(chosen, tuple(baseline), num_uniform)

    figures["ap"]["test"] = chosen.ap
    result.best.arch.save(folder / ARCH_FILE, origin | figures)
    report.draw(folder / PICTURE_FILE, budget, result.archive, check, num_keypoints)
    summary = origin | {
        "num_evaluations": len(rows),
        "num_validation_images": len(search_scorer.evaluation_set),
        "num_test_images": len(final_scorer.evaluation_set),
        "test_is_validation": dataset["test"] == dataset["val"],
        "chosen": best | {"metrics": {"val": best["metrics"], "test": chosen.metrics}},
        "baseline": report.baseline_figures(check, num_keypoints),
        "search_seconds": round(search_seconds, 1),
        "seconds": round(time.perf_counter() - start, 1),
    }
    cli.write_summary(folder, summary)
    cli.CONSOLE.print(report.table(check, len(final_scorer.evaluation_set), num_keypoints))
    if summary["test_is_validation"]:
        cli.CONSOLE.print("this data set has the same pictures for val and test, so the chosen subnet is favoured")
    cli.CONSOLE.print(f"arch: {folder / ARCH_FILE}   all candidates: {folder / CANDIDATES_FILE}", soft_wrap=True)
    cli.CONSOLE.print(f"picture: {folder / PICTURE_FILE}   report: {folder / 'summary.json'}", soft_wrap=True)
    return folder


def _scorers(
    trained: TrainedSupernet, dataset: Mapping[str, Any], settings: EvolveSettings
) -> tuple[SubnetScorer, SubnetScorer]:
    """Return the scorer of the search (validation pictures) and that of the final check (test pictures)."""

    def pictures(split: str) -> PoseDataset:
        return pictures_for(trained.keypoints, dataset, split, f"the supernet {trained.path}")

    train_set = pictures("train")
    dataset = resolved(dataset, trained.keypoints)
    inference = from_mapping(InferenceSettings, trained.evaluation, "evaluation")

    def scorer(scored: KeptPictures) -> SubnetScorer:
        return SubnetScorer(
            trained.supernet,
            train_set,
            scored,
            inference,
            num_calibration_images=settings.num_calibration_images,
            batch_size=settings.batch_size,
        )

    return scorer(KeptPictures(pictures("val"), settings.num_images)), scorer(KeptPictures(pictures("test")))


def _search(
    scorer: SubnetScorer,
    space: SearchSpace,
    fits: Callable[[Arch], bool],
    evolution: EvolutionSettings,
    rng: np.random.Generator,
    num_keypoints: int,
    folder: Path,
) -> tuple[Result, list[dict[str, Any]]]:
    """Evolve under a progress bar; return the result and all candidates as rows, which are also written to a file."""
    metrics: dict[Arch, dict[str, float]] = {}
    rows: list[dict[str, Any]] = []

    def score(arch: Arch) -> float:
        metrics[arch] = scorer(arch).metrics
        return metrics[arch]["AP"]

    with cli.progress_bar() as progress:
        task = progress.add_task("searching", total=evolution.population * evolution.generations, note="")

        def on_evaluated(candidate: Candidate) -> None:
            rows.append(report.candidate_row(candidate, metrics[candidate.arch], num_keypoints))
            if len(rows) % evolution.population == 0:
                files.write_json(folder / CANDIDATES_FILE, rows)
            best = max(row["metrics"]["AP"] for row in rows)
            progress.update(task, advance=1, note=f"generation {candidate.generation}: best AP {best:.3f}")

        try:
            result = evolve(space, score, fits, evolution, rng, on_evaluated)
        except KeyboardInterrupt:
            files.write_json(folder / CANDIDATES_FILE, rows)
            raise UserError(f"stopped after {len(rows)} evaluations; their figures are in {folder}") from None
        progress.update(task, total=len(rows))
    files.write_json(folder / CANDIDATES_FILE, rows)
    return result, rows


def _check(scorer: SubnetScorer, archs: list[Arch]) -> list[report.Checked]:
    """Score ``archs`` on test pictures under a progress bar."""
    found = []
    with cli.progress_bar() as progress:
        task = progress.add_task("final check", total=len(archs), note="")
        for arch in archs:
            found.append(report.Checked(arch, scorer(arch).metrics))
            progress.update(task, advance=1)
    return found
