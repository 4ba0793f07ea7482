"""Study: how well search engines find the best arch within a budget, on spaces in which every score is known.

    python -m scripts.studies.search_engines --out=FOLDER
    python -m scripts.studies.search_engines --out=FOLDER --engines evolution predictor --problems 1 --seeds 10
    python -m scripts.studies.search_engines --out=FOLDER --table=table.json   # scores of a real supernet

Writes ``study.json`` and ``study.png``. The scores are a fixed random function of single choices and of pairs of
choices, or a table of all archs of a space:
``{"space": ..., "num_keypoints": 17, "rows": [{"arch": ..., "ap": ...}]}``.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.studies.search_landscape import (
    EVALUATION_SHARE,
    Landscape,
    expected_random_search,
    hypervolume,
    read_landscape,
    synthetic,
)
from search.budget import Budget, CostModel
from search.candidate import Score
from search.evolution.engine import Evolution, Task, evolve
from search.evolution.offspring import OffspringGenerator
from search.evolution.settings import EvolutionSettings
from search.evolution.surrogate import PredictedProposals, PredictionSettings
from search.optuna_backend.samplers import SAMPLERS, SamplerSettings
from search.optuna_backend.search import OptunaSearch, OptunaSettings
from search.optuna_backend.shared_study import SharedStudy
from search.optuna_backend.storage import open_study
from search.pareto import Floats
from search.predictor import ApPredictor
from supernet.arch import Arch
from supernet.cli.arguments import CommandLine
from supernet.cli.console import STDERR, run_command
from supernet.compute.machine import machine
from supernet.io import files
from supernet.space import SearchSpace

FIRST_BUDGET = 30
"""Smallest number of evaluations at which engines are compared with random search; they start at random themselves."""
ScoreFunction = Callable[[Arch], float]
Engine = Callable[[Landscape, ScoreFunction, int], Arch]
"""Called with a landscape, its score function (which counts the evaluations) and a seed; returns the best arch."""


def evolution(landscape: Landscape, score: ScoreFunction, seed: int) -> Arch:
    """``search.evolve`` without a predictor."""
    search = Evolution(
        landscape.budget,
        EvolutionSettings(8, landscape.num_evaluations, 0.75),
        np.random.default_rng(seed),
    )
    return _evolved(search, score)


def predictor(landscape: Landscape, score: ScoreFunction, seed: int) -> Arch:
    """``search.evolve`` with a predictor."""
    budget = landscape.budget
    settings = EvolutionSettings(16, landscape.num_evaluations)
    generator = OffspringGenerator(budget, settings.offspring)
    surrogate = PredictedProposals(lambda: ApPredictor(landscape.space), generator, PredictionSettings(32, 600))
    return _evolved(Evolution(budget, settings, np.random.default_rng(seed), surrogate), score)


def _evolved(search: Evolution, score: ScoreFunction) -> Arch:
    def scores(tasks: Sequence[Task]) -> list[Score]:
        return [Score(1, {"AP": score(task.candidate.arch)}) for task in tasks]

    return evolve(search, scores).best.arch


def optuna_search(sampler: str, landscape: Landscape, score: ScoreFunction, seed: int) -> Arch:
    """``search.optuna_search`` with a sampler."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.InMemoryStorage()
    shared = SharedStudy(open_study(storage, "search", ("ap",), {}, "memory"), storage, lost_after=60)
    settings = OptunaSettings(landscape.num_evaluations, SamplerSettings(sampler))
    search = OptunaSearch(landscape.budget, settings, seed, shared)
    return search.run(lambda arch: Score(1, {"AP": score(arch)})).best.arch


ENGINES: dict[str, Engine] = {
    "evolution": evolution,
    "predictor": predictor,
    **{f"optuna_{name}": partial(optuna_search, name) for name in SAMPLERS if name != "random"},
}
SLOW = ("optuna_gp",)
"""Engines that run only when named, because a search takes minutes."""


def best_scores(engine: Engine, landscape: Landscape, seed: int) -> Floats:
    """Run an engine; return the best score after each evaluation, padded with the last to ``num_evaluations``."""
    scores: list[float] = []

    def score(arch: Arch) -> float:
        scores.append(landscape.scores[arch])
        return scores[-1]

    num = landscape.num_evaluations
    best = engine(landscape, score, seed)
    if len(scores) > num or not landscape.budget.fits_arch(best) or landscape.scores[best] != max(scores):
        raise RuntimeError(f"{len(scores)} evaluations for {num}, or {best.describe()} is not the best of them")
    return np.maximum.accumulate(np.pad(np.array(scores), (0, num - len(scores)), mode="edge"))


def study(
    engines: Mapping[str, Engine], landscapes: Sequence[Landscape], num_seeds: int
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Run every engine on every landscape; return figures, and by engine the mean progress in per cent.

    0 % is the mean score of the archs within the budget, 100 % the best.
    """
    num = min(landscape.num_evaluations for landscape in landscapes)
    budgets = list(range(FIRST_BUDGET, num + 1, 10))

    def percent(landscape: Landscape, scores: Floats) -> Floats:
        mean, best = landscape.fitting.mean(), landscape.fitting[0]
        progress: Floats = 100 * (scores[:num] - mean) / (best - mean)
        return progress

    random_curves = [percent(landscape, expected_random_search(landscape.fitting, num)) for landscape in landscapes]
    curves = {"random": np.mean(random_curves, 0)}
    figures: dict[str, Any] = {}
    for name, engine in engines.items():
        num_optimal, engine_curves = [], []
        for landscape in landscapes:
            runs = [best_scores(engine, landscape, seed) for seed in range(num_seeds)]
            num_optimal.append(sum(bool(scores[-1] == landscape.fitting[0]) for scores in runs))
            engine_curves += [percent(landscape, scores) for scores in runs]
        curves[name] = np.mean(engine_curves, 0)
        gain = curves[name] - curves["random"]
        figures[name] = {
            "optimum_found": num_optimal,
            "of_seeds": num_seeds,
            "least_gain_over_random": round(min(float(gain[budget - 1]) for budget in budgets), 2),
            "beats_random_at_every_budget": all(bool(gain[budget - 1] > 0) for budget in budgets),
        }
    return {
        "num_archs": [len(landscape.scores) for landscape in landscapes],
        "num_fitting": [len(landscape.fitting) for landscape in landscapes],
        "num_evaluations": [landscape.num_evaluations for landscape in landscapes],
        "pair_share": [round(landscape.pair_share, 3) for landscape in landscapes],
        "budgets": budgets,
        "engines": figures,
    }, curves


def front_share(landscape: Landscape, seed: int) -> float:
    """Return the hypervolume of the front that a search for score and MACs finds, relative to that of all archs.

    The search evaluates ``EVALUATION_SHARE`` of the whole space, without a budget. The worst point has the largest cost
    and the median score.
    """
    costs = landscape.model(landscape.space.encode(landscape.scores))["macs"].astype(np.float64)
    scores = np.array(list(landscape.scores.values()))
    worst = (float(costs.max()), float(np.median(scores)))
    settings = EvolutionSettings(24, int(EVALUATION_SHARE * len(scores)), objectives=("ap", "macs"))
    no_budget = Budget.from_mapping({}, landscape.model)
    search = Evolution(no_budget, settings, np.random.default_rng(seed))
    front = evolve(search, lambda tasks: [Score(1, {"AP": landscape.scores[t.candidate.arch]}) for t in tasks]).front
    points = np.array([(candidate.costs["macs"], candidate.ap) for candidate in front])
    return hypervolume(points[:, 0], points[:, 1], worst) / hypervolume(costs, scores, worst)


def seconds_with_predictor(num_candidates: int) -> float:
    """Return the seconds that a search of the full space on predicted scores takes, without training the predictor."""
    space = SearchSpace.load("litepose")
    model, rng = CostModel(space, 17), np.random.default_rng(0)
    budget = Budget.from_mapping({"macs": "40%"}, model)
    train = space.encode([space.sample(rng) for _ in range(200)])
    predictor = ApPredictor(space).fit(train, np.log(model(train)["macs"]), rng)
    start = time.perf_counter()
    search = Evolution(budget, EvolutionSettings(100, num_candidates), rng)

    def score(tasks: Sequence[Task]) -> list[Score]:
        genes = space.encode([task.candidate.arch for task in tasks])
        return [Score(1, {"AP": value}) for value in predictor.predict(genes).tolist()]

    result = evolve(search, score, batch_size=100)
    if len(result.archive) != num_candidates:
        raise RuntimeError(f"{len(result.archive)} candidates of {num_candidates}")
    return time.perf_counter() - start


def draw(path: Path, curves: Mapping[str, Floats], title: str) -> None:
    """Draw progress over evaluations as a PNG file."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, curve in curves.items():
        style = "--" if name == "random" else "-"
        axes.plot(range(1, len(curve) + 1), curve, style, label=name)
    axes.set(title=title, xlabel="evaluated archs", ylabel="best score: mean of fitting archs 0 %, optimum 100 %")
    axes.grid(alpha=0.3)
    axes.legend()
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


def main() -> None:
    """Run the study."""
    parser = CommandLine(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of study.json and study.png")
    fast = [name for name in ENGINES if name not in SLOW]
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=fast)
    parser.add_argument("--problems", type=int, default=5, help="number of random landscapes")
    parser.add_argument("--seeds", type=int, default=10, help="runs of each engine on each landscape")
    parser.add_argument("--table", type=Path, help="a table of scores instead of random landscapes")
    parser.add_argument(
        "--candidates", type=int, default=5000, help="candidates of the timed search on predicted scores"
    )
    options = parser.parse_args()
    if options.table:
        landscapes = [read_landscape(options.table)]
    else:
        landscapes = [synthetic(seed) for seed in range(options.problems)]
    figures, curves = study({name: ENGINES[name] for name in options.engines}, landscapes, options.seeds)
    shares = [front_share(landscape, seed) for landscape in landscapes for seed in range(options.seeds)]
    figures["trade_offs"] = {"hypervolume_share": {"least": min(shares), "median": statistics.median(shares)}}
    seconds = [round(seconds_with_predictor(options.candidates), 2) for _ in range(3)]
    figures["predicted_search"] = {
        "candidates": options.candidates,
        "seconds": statistics.median(seconds),
        "all": seconds,
    }
    figures["machine"] = machine()
    files.write_json(options.out / "study.json", figures)
    title = f"{len(landscapes)} landscapes, {options.seeds} seeds"
    draw(options.out / "study.png", curves, title)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    run_command(main, STDERR)
