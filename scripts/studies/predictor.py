"""Study: how well the AP predictor of the search orders held-out subnets of a trained supernet.

Run as ``python -m scripts.studies.predictor --supernet runs/train/latest``. It scores random subnets, half of them
uniform draws and half spread from small to large, and appends each score to a file, from which a stopped study
continues. The predictor is trained on the first subnets; the others are held out. The study prints a JSON object and
draws predicted over measured AP.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from search.cost import arch_costs
from search.features import features, one_hot
from search.predictor import ApPredictor, quality
from search.report.charts import BLUE, GREY, ORANGE, Chart, Series, draw_png
from supernet.arch import Arch, Stage
from supernet.checkpoints.supernet_file import TrainedSupernet, load_supernet
from supernet.cli.arguments import CommandLine, whole_number
from supernet.cli.console import STDERR, run_command
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import SubnetScorer, split_for
from supernet.io.schema import from_mapping
from supernet.pose.data.cached import CachedDataset
from supernet.pose.datasets import resolved
from supernet.pose.evaluation import Evaluation
from supernet.pose.inference import InferenceSettings
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.space import SearchSpace

Floats = NDArray[np.float64]
ScoreFunction = Callable[[Arch], dict[str, Any]]
"""Returns "metrics", "half_ap" (AP on either half of the images) and "num_images" of an arch."""
KINDS = ("uniform", "spread")
NUM_SPLITS = 20
"""Random divisions into training and held-out subnets, besides the first."""


def main() -> None:
    """Run the study."""
    parser = CommandLine(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--supernet", type=Path, default=Path("runs/train/latest"), help="file or run folder")
    parser.add_argument("--rows", type=Path, default=Path("runs/study_predictor/rows.jsonl"), help="file of the scores")
    parser.add_argument("--image", type=Path, default=Path("runs/study_predictor/predictor.png"), help="PNG to draw")
    parser.add_argument("--num-held-out", type=whole_number(2), default=100, help="subnets to predict")
    parser.add_argument("--num-train", type=whole_number(10), default=300, help="subnets to train on")
    parser.add_argument("--num-images", type=whole_number(2), default=300, help="validation images to score on")
    parser.add_argument("--seed", type=int, default=7, help="seed of the draws; must be that of existing scores")
    options = parser.parse_args()
    study(options)


def study(options: argparse.Namespace) -> None:
    """Score the missing subnets, evaluate predictors and print the report."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    trained = load_supernet(options.supernet)
    score = score_function(trained, options.num_images)
    rows = list(scored_rows(options, trained, score))
    space, num = trained.supernet.space, options.num_train
    genes = space.encode([Arch.from_dict(row["arch"]) for row in rows])
    aps = np.array([row["metrics"]["AP"] for row in rows])
    held_out, halves = rows[num:], np.array([row["half_ap"] for row in rows]).T

    started = time.perf_counter()
    predictor = ApPredictor(space).fit(genes[:num], aps[:num], np.random.default_rng(0))
    fitted = time.perf_counter()
    predictor.predict(space.layout.sample(np.random.default_rng(0), 5000))
    seconds = {"fit": fitted - started, "predict 5000": time.perf_counter() - fitted}
    predicted, kinds = predictor.predict(genes[num:]), np.array([row["origin"] for row in held_out])
    macs = np.array([row["costs"]["macs"] for row in held_out], np.float64)
    sizes = [size for size in (25, 50, 100, 200) if size < num] + [num]
    report = {
        "num_images": options.num_images,
        "ap": {"least": aps.min(), "greatest": aps.max(), "standard_deviation": aps.std()},
        "predictor": dataclasses.asdict(quality(predicted, aps[num:], num)),
        "kendall tau by kind of draw": {
            kind: tau(predicted[kinds == kind], aps[num:][kinds == kind]) for kind in KINDS
        },
        "kendall tau by number trained on": {size: taus_by_model(space, genes, aps, size, num) for size in sizes},
        "kendall tau over other divisions": taus_of_random_splits(space, genes, aps, num),
        "kendall tau of ordering by multiply-adds alone": tau(macs, aps[num:]),
        "noise of scores": {
            "kendall tau between the two halves of the images, held-out subnets": tau(*halves[:, num:]),
            "standard deviation of AP on all images, from the halves' difference": (halves[0] - halves[1]).std() / 2,
        },
        "seconds": seconds,
    }
    print(json.dumps(report, indent=2, default=float))
    draw(options.image, predicted, aps[num:], kinds)


def scored_rows(
    options: argparse.Namespace, trained: TrainedSupernet, score: ScoreFunction
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all subnets; score those that are not in the file and append them to it."""
    lines = options.rows.read_text("utf-8").splitlines() if options.rows.exists() else []
    options.rows.parent.mkdir(parents=True, exist_ok=True)
    for number in range(options.num_held_out + options.num_train):
        kind, arch = random_subnet(trained.supernet.space, options.seed, number)
        if number < len(lines):
            row = json.loads(lines[number])
            if row["digest"] != arch.digest() or row["num_images"] != options.num_images:
                raise UserError(f"{options.rows} has scores of another study; choose another file")
        else:
            costs = arch_costs(arch, trained.keypoints.num)
            row = {"order": number, "origin": kind, "digest": arch.digest(), "costs": costs, **score(arch)}
            row |= {"arch": arch.to_dict()}
            with options.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        yield row


def random_subnet(space: SearchSpace, seed: int, number: int) -> tuple[str, Arch]:
    """Return the kind and arch of subnet ``number``: uniform, or with all choices near a level from small to large."""
    rng = np.random.default_rng([seed, number])
    if number % 2 == 0:
        return KINDS[0], space.sample(rng)
    level = rng.random()

    def pick(choices: tuple[int, ...]) -> int:
        return choices[int(rng.binomial(len(choices) - 1, level))]

    stages = []
    for stage in space.stages:
        depth, width = pick(stage.depths), pick(stage.widths)
        ratios = tuple(pick(stage.expand_ratios) for _ in range(depth))
        stages.append(Stage(width, stage.stride, ratios, tuple(pick(stage.kernel_sizes) for _ in range(depth))))
    resolution, stem = pick(space.resolutions), pick(space.stem_widths)
    return KINDS[1], Arch(resolution, stem, tuple(stages), tuple(map(pick, space.deconv_widths)))


def score_function(trained: TrainedSupernet, num_images: int) -> ScoreFunction:
    """Return a function that scores an arch without flip test on validation images and on both halves of these."""
    place = f"the supernet {trained.path}"
    dataset = resolved(trained.dataset, trained.keypoints)
    val_set = CachedDataset(split_for(trained.keypoints, dataset, "val", place), num_images)
    settings = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
    settings = dataclasses.replace(settings, flip_test=False)
    train_set = split_for(trained.keypoints, trained.dataset, "train", place)
    evaluate = SubnetScorer(trained.supernet, train_set, val_set, settings, num_calibration_images=64)
    truth = val_set.ground_truth()
    halves = []
    for first in (0, 1):
        ids = set(list(val_set.image_ids)[first::2])
        images = [image for image in truth["images"] if image["id"] in ids]
        people = [person for person in truth["annotations"] if person["image_id"] in ids]
        halves.append((ids, KeypointEvaluator({**truth, "images": images, "annotations": people}, trained.keypoints)))

    def score(arch: Arch) -> dict[str, Any]:
        evaluation: Evaluation = evaluate(arch)
        half_aps = [
            half.score([pose for pose in evaluation.results if pose["image_id"] in ids])["AP"] for ids, half in halves
        ]
        return {"metrics": evaluation.metrics, "half_ap": half_aps, "num_images": len(val_set)}

    return score


def taus_by_model(space: SearchSpace, genes: NDArray[np.int16], aps: Floats, num: int, first: int) -> dict[str, float]:
    """Return Kendall tau on the subnets from ``first`` on, of the predictor and alternatives trained on ``num``."""
    inputs, choices = features(space, genes), one_hot(space, genes)
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 25)))
    trees = GradientBoostingRegressor(n_estimators=150, learning_rate=0.05, max_depth=2, subsample=0.5, random_state=0)
    models = {
        "ridge on features": (ridge, inputs),
        "ridge on every single choice": (ridge, choices),
        "ridge on both": (ridge, np.hstack([inputs, choices])),
        "boosted trees on features": (trees, inputs),
        "random forest on features": (RandomForestRegressor(200, random_state=0), inputs),
    }
    predictor = ApPredictor(space).fit(genes[:num], aps[:num], np.random.default_rng(0))
    by_model = {"predictor": tau(predictor.predict(genes[first:]), aps[first:])}
    for name, (model, x) in models.items():
        by_model[name] = tau(model.fit(x[:num], aps[:num]).predict(x[first:]), aps[first:])
    return by_model


def taus_of_random_splits(space: SearchSpace, genes: NDArray[np.int16], aps: Floats, num: int) -> dict[str, float]:
    """Return Kendall tau of the predictor over random divisions, each with ``num`` subnets to train on."""
    rng, taus = np.random.default_rng(1), []
    for _ in range(NUM_SPLITS):
        order = rng.permutation(len(aps))
        train, held_out = order[:num], order[num:]
        predicted = ApPredictor(space).fit(genes[train], aps[train], rng).predict(genes[held_out])
        taus.append(tau(predicted, aps[held_out]))
    return {"divisions": NUM_SPLITS, "mean": float(np.mean(taus)), "least": min(taus), "greatest": max(taus)}


def tau(first: Floats, second: Floats) -> float:
    """Return the Kendall tau of two rankings."""
    return float(kendalltau(first, second).statistic)


def draw(path: Path, predicted: Floats, aps: Floats, kinds: NDArray[np.str_]) -> None:
    """Draw predicted over measured AP of the held-out subnets."""
    series = [
        Series(f"{kind} draws", tuple(aps[kinds == kind]), tuple(predicted[kinds == kind]), "points", color)
        for kind, color in zip(KINDS, (BLUE, ORANGE), strict=True)
    ]
    ends = (float(aps.min()), float(aps.max()))
    title = f"{len(aps)} held-out subnets, Kendall tau {tau(predicted, aps):.3f}"
    diagonal = Series("equal", ends, ends, "line", GREY)
    draw_png(path, [Chart(title, "measured AP", "predicted AP", (diagonal, *series))])


if __name__ == "__main__":
    run_command(main, STDERR)
