"""How well search engines find the best arch within a budget, where the best is known because all archs were scored.

    python scripts/study_search.py --out=FOLDER
    python scripts/study_search.py --out=FOLDER --engines evolution predictor --problems 1 --seeds 10
    python scripts/study_search.py --out=FOLDER --table=table.json   # scores of a real supernet instead

Writes ``study.json`` and ``study.png``. Scores are a fixed random function of the arch, of single choices and of pairs
of choices, or a table of all archs of a space:
``{"space": ..., "num_keypoints": 17, "rows": [{"arch": ..., "ap": ...}]}``.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.special import gammaln

from search.breeding import Breeder
from search.budget import Budget, CostModel
from search.candidate import Score
from search.evolution import Evolution, EvolutionSettings, Task, evolve
from search.optuna_claims import SharedStudy
from search.optuna_engine import OptunaSearch, OptunaSettings
from search.optuna_samplers import SAMPLERS, SamplerSettings
from search.optuna_storage import open_study
from search.predicted import PredictedProposals, PredictionSettings
from search.predictor import Predictor
from supernet import files
from supernet.arch import Arch
from supernet.measurement import machine
from supernet.space import SearchSpace

SPACE = {
    "name": "small",
    "resolutions": [128, 144, 160],
    "stem_widths": [8, 16],
    "stages": [
        {"widths": [16], "depths": [1], "stride": 2, "expand_ratios": [3], "kernel_sizes": [3]},
        {"widths": [16, 24], "depths": [1, 2], "stride": 2, "expand_ratios": [3, 6], "kernel_sizes": [3]},
        {"widths": [24, 32], "depths": [1, 2], "stride": 2, "expand_ratios": [4], "kernel_sizes": [3, 5]},
        {"widths": [40, 48], "depths": [1], "stride": 1, "expand_ratios": [3], "kernel_sizes": [3]},
    ],
    "deconv_widths": [[16, 24], [16], [16]],
}
"""3,456 archs with every kind of choice."""
FITTING_SHARE = 0.4
"""Part of all archs that the budget allows."""
EVALUATION_SHARE = 0.1
"""Part of these that an engine may evaluate."""
PAIR_STRENGTH = 0.7
"""Standard deviation of what a pair of choices adds, over that of a single one."""

Floats = npt.NDArray[np.float64]
ScoreFunction = Callable[[Arch], float]
Engine = Callable[[SearchSpace, ScoreFunction, CostModel, Budget, int, int], Arch]
"""Called with space, score, cost model, budget, number of evaluations and seed; returns the best arch it scored."""


@dataclass(frozen=True)
class Landscape:
    """A space with the score of every arch, and a budget.

    Attributes:
        scores: By arch, all of the space.
        fitting: Scores of those within the budget, falling.
        pair_share: Part of the scores' variance that single choices do not explain.
    """

    space: SearchSpace
    model: CostModel
    budget: Budget
    scores: Mapping[Arch, float]
    fitting: Floats
    pair_share: float

    @property
    def num_evaluations(self) -> int:
        """Evaluations that an engine may use."""
        return int(EVALUATION_SHARE * len(self.fitting))


def enumerated(space: SearchSpace) -> list[Arch]:
    """Return every arch of a small space, once."""
    layout = space.layout
    genes = np.array(list(itertools.product(*map(range, layout.num_choices.tolist()))), np.int16)
    return space.decode(np.unique(layout.checked(genes), axis=0))


def landscape(space: SearchSpace, archs: Sequence[Arch], scores: Floats, num_keypoints: int = 17) -> Landscape:
    """Return archs and scores with a budget in MACs that ``FITTING_SHARE`` of the archs keep."""
    model = CostModel(space, num_keypoints)
    genes = space.encode(archs)
    costs = model(genes)
    budget = Budget.from_mapping({"macs": int(np.quantile(costs["macs"], FITTING_SHARE))}, model)
    singles = _one_hot(genes)
    residual = scores - singles @ np.linalg.lstsq(singles, scores, rcond=None)[0]
    fitting = np.sort(scores[budget.fits(costs)])[::-1]
    table = dict(zip(archs, scores.tolist(), strict=True))
    return Landscape(space, model, budget, table, fitting, float(residual.var() / scores.var()))


def synthetic(seed: int) -> Landscape:
    """Return a random function of single choices and of pairs of them; without noise, so that it has one best arch."""
    space = SearchSpace.from_dict(SPACE)
    archs = enumerated(space)
    genes = space.encode(archs).astype(np.int64) + 1
    rng = np.random.default_rng(seed)
    num_genes, num_values = genes.shape[1], int(genes.max()) + 1
    single = rng.normal(size=(num_genes, num_values))
    pairs = PAIR_STRENGTH * rng.normal(size=(num_genes, num_genes, num_values, num_values))
    scores = single[np.arange(num_genes), genes].sum(1)
    for i, j in itertools.combinations(range(num_genes), 2):
        scores += pairs[i, j, genes[:, i], genes[:, j]]
    return landscape(space, archs, scores)


def from_table(path: Path) -> Landscape:
    """Read the scores of all archs of a space."""
    table = json.loads(path.read_text("utf-8"))
    archs = [Arch.from_dict(row["arch"]) for row in table["rows"]]
    scores = np.array([row["ap"] for row in table["rows"]])
    return landscape(SearchSpace.from_dict(table["space"]), archs, scores, table["num_keypoints"])


def _one_hot(genes: npt.NDArray[np.int16]) -> Floats:
    return np.concatenate([(column[:, None] == np.unique(column)[None]) for column in genes.T], 1).astype(np.float64)


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
        breeder = Breeder(space, model, budget, settings.breeding)
        surrogate = PredictedProposals(lambda: Predictor(space), breeder, prediction)
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


def random_search(fitting: Floats, num: int) -> Floats:
    """Return the exact expectation of the best score after each of ``num`` random evaluations, none twice.

    Of N archs ranked from 0, the best of n is that of rank i with probability C(N - 1 - i, n - 1) / C(N, n).
    """
    total, ranks = len(fitting), np.arange(len(fitting))
    found = []
    for n in range(1, num + 1):
        with np.errstate(invalid="ignore"):
            log = _log_choose(total - 1 - ranks, n - 1) - _log_choose(np.array(total), n)
        found.append(float(np.where(total - 1 - ranks >= n - 1, np.exp(log), 0) @ fitting))
    return np.array(found)


def _log_choose(n: npt.NDArray[np.int64], k: int) -> Floats:
    n = np.maximum(n, k)
    result: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return result


def study(
    engines: Mapping[str, Engine], problems: Sequence[Landscape], num_seeds: int
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Run every engine on every problem; return figures, and by name the mean progress in per cent of the best.

    A score counts from the mean of the archs that fit, 0 %, to the best of them, 100 %.
    """
    num = min(problem.num_evaluations for problem in problems)
    budgets = list(range(20, num + 1, 10))

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


def hypervolume(costs: Floats, scores: Floats, worst: tuple[float, float]) -> float:
    """Return the area of the plane that lies below one of the points, above the worst score and cost."""
    found, top = 0.0, worst[1]
    for cost, score in sorted(zip(costs.tolist(), scores.tolist(), strict=True)):
        if score > top and cost < worst[0]:
            found, top = found + (worst[0] - cost) * (score - top), score
    return found


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
    predictor = Predictor(space).fit(train, np.log(model(train)["macs"]), rng)
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
