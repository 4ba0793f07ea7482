"""Study how many images the calibration of a candidate needs: noise of AP and order of candidates. Prints JSON.

Run as ``python -m scripts.studies.calibration --photos FOLDER [--counts 4 8 16 32 64 128] [--archs 8]``.

Random subnets of ``pretrained:photos`` are calibrated on several numbers of training photographs and scored on the same
validation photographs. Per number: the mean distance of AP from that with the most images, the noise (the deviation
between two sets of different images of that number), Kendall's tau of the order with that of the most images, and the
processor time of a calibration.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from scipy.stats import kendalltau

from scripts.benchmarks.timing import print_report
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import load_supernet
from supernet.cli.console import STDERR, run_command
from supernet.compute.cpu_tuning import prefer_throughput
from supernet.evaluation.folding import folded
from supernet.evaluation.image_workers import predict_in_workers
from supernet.evaluation.subnet_estimator import subnet_estimator
from supernet.evaluation.subnet_scorer import SubnetScorer, split_for
from supernet.io import files
from supernet.io.schema import from_mapping
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.subset import Subset, evenly_spread
from supernet.pose.evaluation import PredictDataset, evaluate
from supernet.pose.inference import InferenceSettings

CONF = Path(__file__).parents[2] / "conf" / "dataset"


def photographs(folder: str) -> dict[str, Any]:
    """The description of ``dataset=coco_people`` in a folder."""
    both = (yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8")) for name in ("coco", "coco_people"))
    whole, own = both
    return {**whole, **{split: {**whole[split], **own[split]} for split in ("train", "val", "test")}, "root": folder}


def measured(options: argparse.Namespace) -> dict[int, list[dict[str, float]]]:
    """By number of calibration images, one row per arch: AP with two sets of images, and seconds of the processor."""
    trained = load_supernet("pretrained:photos")
    dataset, space = photographs(options.photos), trained.supernet.space
    train, val = (split_for(trained.keypoints, dataset, split, "the supernet") for split in ("train", "val"))
    images = evenly_spread(CachedDataset(val), options.images)
    settings = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
    halves = [CachedDataset(Subset(train, range(start, len(train), 2))) for start in (0, 1)]
    rng = np.random.default_rng(options.seed)
    archs = [space.sample(rng) for _ in range(options.archs)]
    scorers = {
        count: [SubnetScorer(trained.supernet, half, images, settings, count) for half in halves]
        for count in options.counts
    }
    rows: dict[int, list[dict[str, float]]] = {count: [] for count in options.counts}
    done = _resumed(options)
    for number, arch in enumerate(archs):
        for count, pair in scorers.items():
            row = done.get((number, count))
            if row is None:
                row = _row(pair, arch, partial(predict_in_workers, options.threads))
                done[number, count] = row
                if options.rows is not None:
                    saved = [{"arch": place[0], "count": place[1], **values} for place, values in done.items()]
                    files.write_json(options.rows, saved)
            rows[count].append(row)
            print(number, count, json.dumps(row), file=sys.stderr, flush=True)
    return rows


def _row(scorers: Sequence[SubnetScorer], arch: Arch, predict: PredictDataset) -> dict[str, float]:
    """AP of one arch, calibrated by each of two scorers, and the processor time of the second's calibration."""
    row = {}
    for name, scorer in zip(("first", "second"), scorers, strict=True):
        scorer.calibration_images(arch.resolution)  # loads them
        start = time.process_time()
        network = scorer.subnet(arch)
        row["seconds"] = time.process_time() - start
        estimator = subnet_estimator(folded(network), scorer.evaluation_set.keypoints, scorer.settings)
        row[name] = evaluate(estimator, scorer.evaluation_set, predict=predict).metrics["AP"]
    return row


def _resumed(options: argparse.Namespace) -> dict[tuple[int, int], dict[str, float]]:
    """Rows of an earlier run with the same options, by arch and count."""
    if options.rows is None or not options.rows.exists():
        return {}
    return {(row.pop("arch"), row.pop("count")): row for row in files.read_json(options.rows, "rows")}


def table(rows: dict[int, list[dict[str, float]]]) -> list[dict[str, float | None]]:
    """One row of figures per number of calibration images; no tau where APs have no order."""
    most = np.array([(row["first"] + row["second"]) / 2 for row in rows[max(rows)]])
    figures: list[dict[str, float | None]] = []
    for count, own in sorted(rows.items()):
        both = np.array([[row["first"], row["second"]] for row in own])
        tau = float(np.mean([kendalltau(both[:, side], most).statistic for side in (0, 1)]))
        figures.append(
            {
                "calibration_images": count,
                "mean_ap": round(float(both.mean()), 4),
                "mean_distance_of_ap": round(float(np.abs(both - most[:, None]).mean()), 4),
                "noise_of_ap": round(float(np.sqrt(np.square(both[:, 0] - both[:, 1]).mean() / 2)), 4),
                "kendall_tau": None if math.isnan(tau) else round(tau, 3),
                "seconds": round(float(np.median([row["seconds"] for row in own])), 2),
            }
        )
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--photos", required=True, help="folder of coco_people")
    parser.add_argument("--counts", type=int, nargs="+", default=[4, 8, 16, 32, 64, 128], help="calibration images")
    parser.add_argument("--archs", type=int, default=8, help="random subnets")
    parser.add_argument("--images", type=int, default=100, help="validation images")
    parser.add_argument("--seed", type=int, default=0, help="of the subnets")
    parser.add_argument("--threads", type=int, default=2, help="cores to use")
    parser.add_argument("--rows", type=Path, help="file of rows: a stopped study with the same options goes on from it")
    parser.add_argument("--output", help="also write the JSON to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prefer_throughput()
    cv2.setNumThreads(0)
    workload = {name: value for name, value in vars(options).items() if name not in ("output", "rows")}
    print_report(workload, {"results": table(measured(options))}, options.output)


if __name__ == "__main__":
    run_command(main, STDERR)
