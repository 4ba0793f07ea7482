"""How well the search's predictor orders subnets of a trained supernet that it was not trained on.

Scores random subnets, half of them uniform draws and half spread from small to large, one line each into a file that a
stopped study goes on from. The first are trained on, the others are held out. Prints one JSON object and draws
predicted against measured AP; run as ``python -m scripts.studies.predictor --supernet runs/train/latest``.
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
from supernet.cli.console import run_command
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import SubnetScorer, images_for
from supernet.io.schema import from_mapping
from supernet.pose.data.cached import CachedDataset
from supernet.pose.datasets import resolved
from supernet.pose.evaluation import Evaluation
from supernet.pose.inference import InferenceSettings
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.space import SearchSpace

Floats = NDArray[np.float64]
Score = Callable[[Arch], dict[str, Any]]
KINDS = ("uniform", "spread")
DIVISIONS = 20


def main() -> None:
    """Scores what is missing, then measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--supernet", type=Path, default=Path("runs/train/latest"), help="file or run folder")
    parser.add_argument("--rows", type=Path, default=Path("runs/study_predictor/rows.jsonl"), help="kept scores")
    parser.add_argument("--image", type=Path, default=Path("runs/study_predictor/predictor.png"), help="PNG to draw")
    parser.add_argument("--num-held-out", type=int, default=100, help="subnets to predict")
    parser.add_argument("--num-train", type=int, default=300, help="subnets to learn from")
    parser.add_argument("--num-images", type=int, default=300, help="validation images each is scored on")
    parser.add_argument("--seed", type=int, default=7, help="of the draws; kept scores must be of the same one")
    options = parser.parse_args()
    run_command(lambda: study(options))


def study(options: argparse.Namespace) -> None:
    """Score, measure and print."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    trained = load_supernet(options.supernet)
    score = scorer(trained, options.num_images)
    rows = list(scored(options, trained, score))
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
        "kendall tau by number trained on": {size: taus(space, genes, aps, size, num) for size in sizes},
        "kendall tau over other divisions": divided(space, genes, aps, num),
        "kendall tau of ordering by multiply-adds alone": tau(macs, aps[num:]),
        "noise of scores": {
            "kendall tau between the two halves of the images, held-out subnets": tau(*halves[:, num:]),
            "standard deviation of AP on all images, from the halves' difference": (halves[0] - halves[1]).std() / 2,
        },
        "seconds": seconds,
    }
    print(json.dumps(report, indent=2, default=float))
    draw(options.image, predicted, aps[num:], kinds)


def scored(options: argparse.Namespace, trained: TrainedSupernet, score: Score) -> Iterator[dict[str, Any]]:
    """Yield the rows of all subnets, those that are not kept yet scored and appended to the file."""
    kept = options.rows.read_text("utf-8").splitlines() if options.rows.exists() else []
    options.rows.parent.mkdir(parents=True, exist_ok=True)
    for number in range(options.num_held_out + options.num_train):
        kind, arch = drawn(trained.supernet.space, options.seed, number)
        if number < len(kept):
            row = json.loads(kept[number])
            if row["digest"] != arch.digest() or row["num_images"] != options.num_images:
                raise UserError(f"{options.rows} holds scores of another study; name another file")
        else:
            costs = arch_costs(arch, trained.keypoints.num)
            row = {"order": number, "origin": kind, "digest": arch.digest(), "costs": costs, **score(arch)}
            row |= {"arch": arch.to_dict()}
            with options.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        yield row


def drawn(space: SearchSpace, seed: int, number: int) -> tuple[str, Arch]:
    """Return subnet ``number``: uniform, or with all choices drawn around one common level from small to large."""
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


def scorer(trained: TrainedSupernet, num_images: int) -> Score:
    """Return what scores an arch, without flip test, on validation images and on either half of them."""
    place = f"the supernet {trained.path}"
    dataset = resolved(trained.dataset, trained.keypoints)
    val_set = CachedDataset(images_for(trained.keypoints, dataset, "val", place), num_images)
    settings = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
    settings = dataclasses.replace(settings, flip_test=False)
    train_set = images_for(trained.keypoints, trained.dataset, "train", place)
    evaluate = SubnetScorer(trained.supernet, train_set, val_set, settings, num_calibration_images=64)
    truth = val_set.ground_truth()
    halves = []
    for first in (0, 1):
        ids = set(list(val_set.image_ids)[first::2])
        images = [image for image in truth["images"] if image["id"] in ids]
        people = [one for one in truth["annotations"] if one["image_id"] in ids]
        halves.append((ids, KeypointEvaluator({**truth, "images": images, "annotations": people}, trained.keypoints)))

    def score(arch: Arch) -> dict[str, Any]:
        found: Evaluation = evaluate(arch)
        parts = [half.score([one for one in found.results if one["image_id"] in ids])["AP"] for ids, half in halves]
        return {"metrics": found.metrics, "half_ap": parts, "num_images": len(val_set)}

    return score


def taus(space: SearchSpace, genes: NDArray[np.int16], aps: Floats, num: int, first: int) -> dict[str, float]:
    """Kendall tau on subnets from ``first`` on, of the predictor and what it could be instead, trained on ``num``."""
    inputs, shown = features(space, genes), one_hot(space, genes)
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 25)))
    trees = GradientBoostingRegressor(n_estimators=150, learning_rate=0.05, max_depth=2, subsample=0.5, random_state=0)
    models = {
        "ridge on features": (ridge, inputs),
        "ridge on every single choice": (ridge, shown),
        "ridge on both": (ridge, np.hstack([inputs, shown])),
        "boosted trees on features": (trees, inputs),
        "random forest on features": (RandomForestRegressor(200, random_state=0), inputs),
    }
    predictor = ApPredictor(space).fit(genes[:num], aps[:num], np.random.default_rng(0))
    found = {"predictor": tau(predictor.predict(genes[first:]), aps[first:])}
    for name, (model, x) in models.items():
        found[name] = tau(model.fit(x[:num], aps[:num]).predict(x[first:]), aps[first:])
    return found


def divided(space: SearchSpace, genes: NDArray[np.int16], aps: Floats, num: int) -> dict[str, float]:
    """Kendall tau of the predictor where other subnets are trained on, as many of them."""
    rng, found = np.random.default_rng(1), []
    for _ in range(DIVISIONS):
        order = rng.permutation(len(aps))
        some, others = order[:num], order[num:]
        predicted = ApPredictor(space).fit(genes[some], aps[some], rng).predict(genes[others])
        found.append(tau(predicted, aps[others]))
    return {"divisions": DIVISIONS, "mean": float(np.mean(found)), "least": min(found), "greatest": max(found)}


def tau(first: Floats, second: Floats) -> float:
    """Kendall tau of two orders."""
    return float(kendalltau(first, second).statistic)


def draw(path: Path, predicted: Floats, aps: Floats, kinds: NDArray[np.str_]) -> None:
    """Draw predicted against measured AP of the held-out subnets."""
    series = [
        Series(f"{kind} draws", tuple(aps[kinds == kind]), tuple(predicted[kinds == kind]), "points", color)
        for kind, color in zip(KINDS, (BLUE, ORANGE), strict=True)
    ]
    ends = (float(aps.min()), float(aps.max()))
    title = f"{len(aps)} held-out subnets, Kendall tau {tau(predicted, aps):.3f}"
    diagonal = Series("equal", ends, ends, "line", GREY)
    draw_png(path, [Chart(title, "measured AP", "predicted AP", (diagonal, *series))])


if __name__ == "__main__":
    main()
