"""How well search engines find the best arch within a budget, where the best is known because all archs were scored.

    python -m scripts.studies.search_engines --out=FOLDER
    python -m scripts.studies.search_engines --out=FOLDER --engines evolution predictor --problems 1 --seeds 10
    python -m scripts.studies.search_engines --out=FOLDER --table=table.json   # scores of a real supernet instead

Writes ``study.json`` and ``study.png``. Scores are a fixed random function of the arch, of single choices and of pairs
of choices, or a table of all archs of a space:
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
    from_table,
    hypervolume,
    random_search,
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
from supernet.compute.machine import machine
from supernet.io import files
from supernet.space import SearchSpace

FIRST_BUDGET = 30
"""Fewest evaluations at which engines are compared with chance: they begin with a random generation themselves."""
ScoreFunction = Callable[[Arch], float]
Engine = Callable[[SearchSpace, ScoreFunction, CostModel, Budget, int, int], Arch]
"""Called with space, score, cost model, budget, number of evaluations and seed; returns the best arch it scored."""


def evolution(
    space: SearchSpace, score: ScoreFunction, model: CostModel, budget: Budget, num_evaluations: int, seed: int
) -> Arch:
    """``search.evolve`` without a predictor."""
    return _evolved(space, score, model, budget, EvolutionSettings(8, num_evaluations, 0.75), seed, None)


def predictor(
    space: SearchSpace, score: ScoreFunction, model: CostModel, budget: Budget, num_evaluations: int, seed: int
) -> Arch:
    """``search.evolve`` with a predictor."""
    settings = EvolutionSettings(16, num_evaluations)
    return _evolved(space, score, model, budget, settings, seed, PredictionSettings(32, 600))


def optuna_search(
    sampler: str,
    space: SearchSpace,
    score: ScoreFunction,
    model: CostModel,
    budget: Budget,
    num_evaluations: int,
    seed: int,
) -> Arch:
    """``search.optuna_search`` with a sampler."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.InMemoryStorage()
    shared = SharedStudy(open_study(storage, "search", ("ap",), {}, "memory"), storage, lost_after=60)
    settings = OptunaSettings(num_evaluations, SamplerSettings(sampler))
    search = OptunaSearch(space, model, budget, settings, seed, shared)
    return search.run(lambda arch: Score(1, {"AP": score(arch)})).best.arch


ENGINES: dict[str, Engine] = {
    "evolution": evolution,
    "predictor": predictor,
    **{f"optuna_{name}": partial(optuna_search, name) for name in SAMPLERS if name != "random"},
}
SLOW = ("optuna_gp",)
"""Engines that run only when named: minutes for every seed."""


def _evolved(
    space: SearchSpace,
    score: ScoreFunction,
    model: CostModel,
    budget: Budget,
    settings: EvolutionSettings,
    seed: int,
    prediction: PredictionSettings | None,
) -> Arch:
    surrogate = None
    if prediction:
        breeder = OffspringGenerator(space, model, budget, settings.breeding)
        surrogate = PredictedProposals(lambda: ApPredictor(space), breeder, prediction)
    search = Evolution(space, model, budget, settings, np.random.default_rng(seed), surrogate)

    def scored(tasks: Sequence[Task]) -> list[Score]:
        return [Score(1, {"AP": score(task.candidate.arch)}) for task in tasks]

    return evolve(search, scored).best.arch


def run(engine: Engine, problem: Landscape, seed: int) -> Floats:
    """Return the best score after each evaluation of one run, padded with the last to ``num_evaluations``."""
    seen: list[float] = []

    def score(arch: Arch) -> float:
        seen.append(problem.scores[arch])
        return seen[-1]

    num = problem.num_evaluations
    best = engine(problem.space, score, problem.model, problem.budget, num, seed)
    if len(seen) > num or not problem.budget.fits_arch(best) or problem.scores[best] != max(seen):
        raise RuntimeError(f"{len(seen)} evaluations for {num}, or {best.describe()} is not the best of them")
    return np.maximum.accumulate(np.pad(np.array(seen), (0, num - len(seen)), mode="edge"))


def study(
    engines: Mapping[str, Engine], problems: Sequence[Landscape], num_seeds: int
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Run every engine on every problem; return figures, and by name the mean progress in per cent of the best.

    A score counts from the mean of the archs that fit, 0 %, to the best of them, 100 %.
    """
    num = min(problem.num_evaluations for problem in problems)
    budgets = list(range(FIRST_BUDGET, num + 1, 10))

    def share(problem: Landscape, curve: Floats) -> Floats:
        mean, best = problem.fitting.mean(), problem.fitting[0]
        found: Floats = 100 * (curve[:num] - mean) / (best - mean)
        return found

    curves = {"random": np.mean([share(each, random_search(each.fitting, num)) for each in problems], 0)}
    figures: dict[str, Any] = {}
    for name, engine in engines.items():
        found, all_curves = [], []
        for problem in problems:
            runs = [run(engine, problem, seed) for seed in range(num_seeds)]
            found.append(sum(bool(one[-1] == problem.fitting[0]) for one in runs))
            all_curves += [share(problem, one) for one in runs]
        curves[name] = np.mean(all_curves, 0)
        gain = curves[name] - curves["random"]
        figures[name] = {
            "optimum_found": found,
            "of_seeds": num_seeds,
            "least_gain_over_random": round(min(float(gain[budget - 1]) for budget in budgets), 2),
            "beats_random_at_every_budget": all(bool(gain[budget - 1] > 0) for budget in budgets),
        }
    return {
        "num_archs": [len(each.scores) for each in problems],
        "num_fitting": [len(each.fitting) for each in problems],
        "num_evaluations": [each.num_evaluations for each in problems],
        "pair_share": [round(each.pair_share, 3) for each in problems],
        "budgets": budgets,
        "engines": figures,
    }, curves


def front_share(problem: Landscape, seed: int) -> float:
    """Return the hypervolume that a search for trade-offs of score and MACs finds, over that of all archs.

    It evaluates ``EVALUATION_SHARE`` of the whole space, without a budget; the worst point is the greatest cost and the
    median score.
    """
    costs = problem.model(problem.space.encode(problem.scores))["macs"].astype(np.float64)
    scores = np.array(list(problem.scores.values()))
    worst = (float(costs.max()), float(np.median(scores)))
    settings = EvolutionSettings(24, int(EVALUATION_SHARE * len(scores)), objectives=("ap", "macs"))
    free = Budget.from_mapping({}, problem.model)
    search = Evolution(problem.space, problem.model, free, settings, np.random.default_rng(seed))
    front = evolve(search, lambda tasks: [Score(1, {"AP": problem.scores[t.candidate.arch]}) for t in tasks]).front
    found = np.array([(one.costs["macs"], one.ap) for one in front])
    return hypervolume(found[:, 0], found[:, 1], worst) / hypervolume(costs, scores, worst)


def seconds_with_predictor(num_candidates: int) -> float:
    """Seconds that a search of the full space takes whose scores are a predictor's, its training not counted."""
    space = SearchSpace.load("litepose")
    model, rng = CostModel(space, 17), np.random.default_rng(0)
    budget = Budget.from_mapping({"macs": "40%"}, model)
    train = space.encode([space.sample(rng) for _ in range(200)])
    predictor = ApPredictor(space).fit(train, np.log(model(train)["macs"]), rng)
    start = time.perf_counter()
    search = Evolution(space, model, budget, EvolutionSettings(100, num_candidates), rng)

    def score(tasks: Sequence[Task]) -> list[Score]:
        genes = space.encode([task.candidate.arch for task in tasks])
        return [Score(1, {"AP": value}) for value in predictor.predict(genes).tolist()]

    result = evolve(search, score, batch_size=100)
    if len(result.archive) != num_candidates:
        raise RuntimeError(f"{len(result.archive)} candidates of {num_candidates}")
    return time.perf_counter() - start


def draw(path: Path, curves: Mapping[str, Floats], title: str) -> None:
    """Draw progress over evaluations as a PNG."""
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
    """Run the study as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of study.json and study.png")
    fast = [name for name in ENGINES if name not in SLOW]
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=fast)
    parser.add_argument("--problems", type=int, default=5, help="different random scores")
    parser.add_argument("--seeds", type=int, default=10, help="runs of each engine on each")
    parser.add_argument("--table", type=Path, help="a table of real scores in place of random ones")
    parser.add_argument("--candidates", type=int, default=5000, help="of the timed search with predicted scores")
    options = parser.parse_args()
    problems = [from_table(options.table)] if options.table else [synthetic(seed) for seed in range(options.problems)]
    figures, curves = study({name: ENGINES[name] for name in options.engines}, problems, options.seeds)
    shares = [front_share(problem, seed) for problem in problems for seed in range(options.seeds)]
    figures["trade_offs"] = {"hypervolume_share": {"least": min(shares), "median": statistics.median(shares)}}
    timed = [round(seconds_with_predictor(options.candidates), 2) for _ in range(3)]
    figures["predicted_search"] = {"candidates": options.candidates, "seconds": statistics.median(timed), "all": timed}
    figures["machine"] = machine()
    files.write_json(options.out / "study.json", figures)
    title = f"{len(problems)} problems, {options.seeds} seeds"
    draw(options.out / "study.png", curves, title)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
