"""Study how many images the calibration of a candidate needs: noise of AP and order of candidates. Prints JSON.

Run as ``python -m scripts.studies.calibration --photos FOLDER [--counts 4 8 16 32 64 128] [--archs 8]``.

Random subnets of ``pretrained:photos`` are calibrated on several numbers of training photographs and scored on the same
validation photographs. Per number: the mean distance of AP from that with the most images, the noise (the deviation
between two sets of different images of that number), Kendall's tau of the order with that of the most images, and the
seconds of a calibration.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from scipy.stats import kendalltau

from scripts.benchmarks.timing import print_report
from supernet.checkpoints.supernet_file import load_supernet
from supernet.compute.cpu_tuning import prefer_throughput
from supernet.evaluation.subnet_scorer import SubnetScorer, split_for
from supernet.io import files
from supernet.io.schema import from_mapping
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.subset import Subset, evenly_spread
from supernet.pose.inference import InferenceSettings

CONF = Path(__file__).parents[2] / "conf" / "dataset"


def photographs(folder: str) -> dict[str, Any]:
    """The description of ``dataset=coco_people`` in a folder."""
    both = (yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8")) for name in ("coco", "coco_people"))
    whole, own = both
    return {**whole, **{split: {**whole[split], **own[split]} for split in ("train", "val", "test")}, "root": folder}


def measured(options: argparse.Namespace) -> dict[int, list[dict[str, float]]]:
    """By number of calibration images, one row per arch: AP with two sets of images, and seconds of a calibration."""
    trained = load_supernet("pretrained:photos")
    dataset, space = photographs(options.photos), trained.supernet.space
    train, val = (split_for(trained.keypoints, dataset, split, "the supernet") for split in ("train", "val"))
    images = evenly_spread(CachedDataset(val), options.images)
    settings = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
    halves = [CachedDataset(Subset(train, range(start, len(train), 2))) for start in (0, 1)]
    rng = np.random.default_rng(options.seed)
    archs = [space.sample(rng) for _ in range(options.archs)]
    rows: dict[int, list[dict[str, float]]] = {}
    for count in options.counts:
        scorers = [
            SubnetScorer(trained.supernet, half, images, settings, count, num_workers=torch.get_num_threads())
            for half in halves
        ]
        rows[count] = []
        for arch in archs:
            row = {}
            for name, scorer in zip(("first", "second"), scorers, strict=True):
                scorer.subnet(arch)  # loads the images
                start = time.perf_counter()
                scorer.subnet(arch)
                row["seconds"] = time.perf_counter() - start
                row[name] = scorer(arch).metrics["AP"]
            rows[count].append(row)
            print(count, json.dumps(row), file=sys.stderr, flush=True)
    return rows


def table(rows: dict[int, list[dict[str, float]]]) -> list[dict[str, float]]:
    """One row of figures per number of calibration images."""
    most = np.array([(row["first"] + row["second"]) / 2 for row in rows[max(rows)]])
    figures = []
    for count, own in sorted(rows.items()):
        both = np.array([[row["first"], row["second"]] for row in own])
        taus = [float(kendalltau(both[:, side], most).statistic) for side in (0, 1)]
        figures.append(
            {
                "calibration_images": count,
                "mean_ap": round(float(both.mean()), 4),
                "mean_distance_of_ap": round(float(np.abs(both - most[:, None]).mean()), 4),
                "noise_of_ap": round(float(np.sqrt(np.square(both[:, 0] - both[:, 1]).mean() / 2)), 4),
                "kendall_tau": round(float(np.mean(taus)), 3),
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
    parser.add_argument("--output", help="also write the JSON to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prefer_throughput()
    cv2.setNumThreads(0)
    workload = {name: value for name, value in vars(options).items() if name != "output"}
    report = print_report(workload, {"results": table(measured(options))})
    if options.output is not None:
        files.write_json(options.output, report)


if __name__ == "__main__":
    main()
