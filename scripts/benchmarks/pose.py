"""Measure the speed of the pose task: grouping, whole images, loading, targets and losses. Prints JSON.

Run as ``python -m scripts.benchmarks.pose``. Wall-clock times need a quiet machine; processor times hardly depend on
other programs. ``plain`` is a simple implementation of the same work, measured in the same run for comparison.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from runpy import run_path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scripts.benchmarks.timing import load_averages, print_report, timed
from supernet.arch import Arch
from supernet.cli.arguments import CommandLine, whole_number
from supernet.cli.console import STDERR, run_command
from supernet.compute.device import pick_device
from supernet.compute.machine import machine
from supernet.litepose import LitePose
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.geometry import normalise
from supernet.pose.grouping import Matching, group, match_by_tag
from supernet.pose.inference import InferenceSettings, PoseEstimator
from supernet.pose.keypoints import COCO, CROWDPOSE
from supernet.pose.peaks import peaks_of_maps
from supernet.pose.refinement import complete
from supernet.pose.subpixel import fitted_tops, quarter_pixels
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.augmentation import Augmentation, Batch, TrainingImages, augment, collate, window_matrix
from supernet.pose.training.objective import PoseObjective, to_device
from supernet.training.optimizer import MaskedAdam

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
NUM_KEYPOINTS, SIDE, NUM_TAGS, MAX_PEOPLE = 14, 512, 2, 30
RESOLUTION, BATCH_SIZE = 256, 16
NUM_IMAGES, IMAGE_SIZE, JPEG_QUALITY = 32, (640, 480), 90

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Figures = dict[str, Any]

crowd_maps: Callable[[int, int, int, int, int, int], tuple[Floats, Floats]]
crowd_maps = run_path(str(GOLDEN / "recipes.py"))["crowd_maps"]


def plain_peaks(heatmaps: Floats) -> tuple[Tensor, Tensor]:
    """Non-maximum suppression by max pooling, and the highest remaining pixels, over whole maps (K, H, W)."""
    maps = torch.from_numpy(heatmaps)
    highest = torch.nn.functional.max_pool2d(maps, 5, 1, 2)
    values, places = (maps * (maps == highest)).flatten(1).topk(MAX_PEOPLE)
    return values, places


def plain_complete(heatmaps: Floats, tags: Floats, places: Integers, means: Floats) -> list[int]:
    """The best pixel of each missing keypoint, searched for in the whole map."""
    best = []
    for person, mean in enumerate(means):
        for keypoint in np.flatnonzero(places[person] < 0):
            distances = np.sqrt(np.square(tags[keypoint] - mean).sum(axis=2))
            best.append(int((heatmaps[keypoint] - np.round(distances)).argmax()))
    return best


def bench_grouping(repeats: int) -> Figures:
    """``group`` on synthetic crowds of different size, complete and in parts."""
    figures: Figures = {"maps": [NUM_KEYPOINTS, SIDE, SIDE], "tags": NUM_TAGS}
    for num_people in (2, 10, 20, 30):
        heat, tags = crowd_maps(1, num_people, NUM_KEYPOINTS, SIDE, SIDE, NUM_TAGS)
        tags = np.moveaxis(np.ascontiguousarray(np.moveaxis(tags, 3, 0)), 0, 3)  # as inference gives them
        figures[f"{num_people} people"] = {
            "thresholded": bench_crowd(heat, tags, "thresholded", repeats),
            "reference": bench_crowd(heat, tags, "reference", repeats),
        }
    return figures


def bench_crowd(heat: Floats, tags: Floats, matching: Matching, repeats: int) -> Figures:
    """``group`` on one crowd's maps (K, H, W) and (K, H, W, T)."""

    def find_peaks() -> list[Integers]:
        return peaks_of_maps(heat, MAX_PEOPLE, 0.1, 5)

    places, means = match_by_tag(heat, tags, candidates := find_peaks(), MAX_PEOPLE, 1.0, matching == "thresholded")
    people, keypoints = np.nonzero(places >= 0)
    y, x = np.divmod(places[people, keypoints], SIDE)
    values = np.zeros(places.shape, np.float32)
    values[people, keypoints] = heat[keypoints, y, x]
    return {
        "people": len(places),
        "missing_keypoints": int((places < 0).sum()),
        "whole": timed(partial(group, heat, tags, matching=matching), repeats),
        "suppression_and_top_k": timed(find_peaks, repeats),
        "matching": timed(
            partial(match_by_tag, heat, tags, candidates, MAX_PEOPLE, 1.0, matching == "thresholded"), repeats
        ),
        "refine": timed(partial(complete, heat, tags, places, values, means), repeats),
        "adjust": timed(partial(quarter_pixels, heat, keypoints, x, y), repeats),
        "adjust_unbiased": timed(partial(fitted_tops, heat, keypoints, x, y), repeats),
        "plain_suppression_and_top_k": timed(partial(plain_peaks, heat), 3),
        "plain_refine": timed(partial(plain_complete, heat, tags, places, means), 3),
    }


def bench_image(repeats: int) -> Figures:
    """Inference on an image with a network that takes no time, without and with people."""
    heat, tags = crowd_maps(1, 10, NUM_KEYPOINTS, SIDE // 2, SIDE // 2, 1)
    high = torch.from_numpy(heat)[None]
    low = torch.cat([high, torch.from_numpy(tags[..., 0])[None]], dim=1)[..., ::2, ::2].contiguous()
    image = np.zeros((SIDE, SIDE, 3), np.uint8)

    def whole(detection_threshold: float) -> object:
        settings = InferenceSettings(flip_test=True, detection_threshold=detection_threshold)
        return PoseEstimator(lambda _: (low, high), SIDE, CROWDPOSE, settings)([image])

    return {
        "input": [SIDE, SIDE],
        "flip_test": True,
        "resize_and_maps": timed(lambda: whole(1e9), repeats),
        "with_grouping": timed(lambda: whole(0.1), repeats),
    }


def bench_loader(repeats: int, folder: Path) -> Figures:
    """Augmented samples from JPEG files on one core, complete and in parts."""
    people = SyntheticPeople(COCO, NUM_IMAGES, 0, *IMAGE_SIZE)
    truth = people.ground_truth()
    for index, entry in enumerate(truth["images"]):
        entry["file_name"] = f"{index}.jpg"
        image = cv2.cvtColor(people[index].image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / entry["file_name"]), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    (folder / "people.json").write_text(json.dumps(truth), encoding="utf-8")
    dataset = CocoPeople(folder / "people.json", folder, COCO)
    images = TrainingImages(dataset, Augmentation())
    files = [np.frombuffer((folder / entry["file_name"]).read_bytes(), np.uint8) for entry in truth["images"]]
    sources = [dataset[index] for index in range(NUM_IMAGES)]
    samples = [images[index, RESOLUTION, 0] for index in range(NUM_IMAGES)]
    window = window_matrix(*IMAGE_SIZE, RESOLUTION, 1.1, 15.0, (IMAGE_SIZE[0] / 2, IMAGE_SIZE[1] / 2), False)
    augmentation, size = Augmentation(), (RESOLUTION, RESOLUTION)
    work: dict[str, Callable[[int], object]] = {
        "sample": lambda index: images[index, RESOLUTION, 0],
        "read": lambda index: dataset[index],
        "read: decode": lambda index: cv2.imdecode(files[index], cv2.IMREAD_COLOR),
        "augment": lambda index: augment(sources[index], RESOLUTION, np.random.default_rng(index), augmentation, COCO),
        "augment: warp": lambda index: cv2.warpAffine(sources[index].image, window, size),
        "collate": lambda index: collate(samples[:BATCH_SIZE]) if index % BATCH_SIZE == 0 else None,
    }
    figures: Figures = {
        "images": {"size": list(IMAGE_SIZE), "jpeg_quality": JPEG_QUALITY, "num": NUM_IMAGES},
        "mean_kilobytes": round(sum(map(len, files)) / len(files) / 1e3, 1),
        "resolution": RESOLUTION,
        "times": f"of {NUM_IMAGES} samples",
    }
    for name, process in work.items():
        figures[name] = timed(partial(_for_all_images, process), repeats)
    for clock in ("wall_ms", "cpu_ms"):
        milliseconds = figures["sample"][clock]["median"] + figures["collate"][clock]["median"]
        figures[f"samples_per_second_by_{clock[:-3]}"] = round(1e3 * NUM_IMAGES / milliseconds, 1)
    return figures


def _for_all_images(process: Callable[[int], object]) -> None:
    for index in range(NUM_IMAGES):
        process(index)


def bench_training(repeats: int, threads: int, device: torch.device, only: set[str]) -> Figures:
    """Targets and losses of a batch, and the complete training step of LitePose-XS."""
    entries = json.loads((GOLDEN / "costs.json").read_text(encoding="utf-8"))
    (entry,) = (item for item in entries if item["name"] == "search-XS" and item["joints"] == COCO.num)
    torch.set_num_threads(threads)
    network = LitePose(Arch.from_dict(entry["arch"]), COCO.num).to(device).train()
    adam = MaskedAdam(network.parameters(), clip_norm=1.0)
    objective, batch = PoseObjective(COCO.num), to_device(training_batch(), device)
    images, truth = normalise(batch.images), objective.targets(batch)
    low, high = (maps.detach().requires_grad_() for maps in network(images))

    def finished(result: object) -> object:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return result

    def step() -> object:
        low, high = network(normalise(batch.images))
        objective.loss(low, high, objective.targets(batch)).total.backward()  # type: ignore[no-untyped-call]
        return finished(adam.step(1e-6))

    def losses() -> object:
        return finished(torch.autograd.grad(objective.loss(low, high, truth).total, [low, high]))

    figures: Figures = {
        "arch": "LitePose-XS",
        "batch": [BATCH_SIZE, RESOLUTION, RESOLUTION],
        "most_people": batch.people.shape[1],
        "threads": threads,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "step": timed(step, max(3, repeats // 3)),
    }
    for name, work in {"targets": lambda: finished(objective.targets(batch)), "losses": losses}.items():
        if name in only:
            figures[name] = timed(work, repeats)
            share = figures[name]["wall_ms"]["median"] / figures["step"]["wall_ms"]["median"]
            figures[f"{name}_share_of_step"] = round(share, 5)
    return figures


def training_batch() -> Batch:
    """A batch of built-in people."""
    images = TrainingImages(SyntheticPeople(COCO, BATCH_SIZE, 0), Augmentation())
    return collate([images[index, RESOLUTION, 0] for index in range(BATCH_SIZE)])


def main() -> None:
    """Measure and print."""
    parts = ("grouping", "image", "loader", "targets", "losses")
    parser = CommandLine(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="what to measure (default: everything)")
    parser.add_argument(
        "--repeats", type=whole_number(1), default=15, help="repeats of each measurement, after one warm-up"
    )
    parser.add_argument(
        "--threads",
        type=whole_number(1),
        default=machine()["cores"],
        help="threads of the training step, targets and losses; all else uses one (default: %(default)s)",
    )
    parser.add_argument(
        "--device", default="cpu", help="device of the training step, targets and losses: cpu, cuda, auto"
    )
    options = parser.parse_args()
    device = pick_device(options.device)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    workload = vars(options) | {"load": load_averages()}
    results: Figures = {}
    if "grouping" in options.only:
        results["grouping"] = bench_grouping(options.repeats)
    if "image" in options.only:
        results["image"] = bench_image(options.repeats)
    if "loader" in options.only:
        with tempfile.TemporaryDirectory() as folder:
            results["loader"] = bench_loader(options.repeats, Path(folder))
    if {"targets", "losses"} & set(options.only):
        results["training"] = bench_training(options.repeats, options.threads, device, set(options.only))
    print_report(workload, results)


if __name__ == "__main__":
    run_command(main, STDERR)
