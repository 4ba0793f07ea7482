"""Measure reading and checking a large annotation file: seconds, memory of the parent and of workers. Prints JSON.

Run as ``python -m scripts.benchmarks.annotations``: it writes a file in COCO's format with 200,000 images and 267,000
people (212 MB) to a temporary folder first. The images do not exist: opening them is not measured.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch.multiprocessing

from scripts.benchmarks.timing import print_report
from supernet.cli.arguments import CommandLine, whole_number
from supernet.cli.console import STDERR, run_command
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.coco.fault_report import check_part
from supernet.pose.coco.splits import DatasetOnDisk
from supernet.pose.keypoints import COCO

STEPS, BATCH_SIZE = 2000, 8


def write(path: Path, num_images: int, num_people: int, seed: int = 0) -> None:
    """Write an annotation file; a third of the people have no keypoints but a polygon, as on COCO."""
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        file.write('{"info": {"description": "random people"}, "licenses": [], "images": [')
        for number in range(num_images):
            image = {"id": number + 1, "file_name": f"{number + 1:012}.jpg", "width": 640, "height": 480}
            image |= {"license": 1, "coco_url": f"http://images.cocodataset.org/train2017/{number + 1:012}.jpg"}
            file.write((", " if number else "") + json.dumps(image))
        file.write('], "annotations": [')
        images = rng.integers(1, num_images + 1, num_people)
        for number in range(num_people):
            x, y, width, height = rng.uniform([0, 0, 20, 20], [300, 200, 300, 250]).round(2).tolist()
            is_labelled = number % 3 > 0
            points = np.zeros((17, 3), int)
            if is_labelled:
                points[:, :2] = rng.uniform([x, y], [x + width, y + height], (17, 2))
                points[:, 2] = rng.integers(0, 3, 17)
                points[points[:, 2] == 0] = 0
            polygon = rng.uniform([x, y] * 20, [x + width, y + height] * 20).round(2).tolist()
            person = {"segmentation": [polygon], "num_keypoints": int((points[:, 2] > 0).sum()), "iscrowd": 0}
            person |= {"area": round(0.6 * width * height, 4), "keypoints": points.ravel().tolist()}
            person |= {"image_id": int(images[number]), "bbox": [x, y, width, height], "category_id": 1}
            file.write((", " if number else "") + json.dumps(person | {"id": number + 1}))
        category = {"id": 1, "name": "person", "keypoints": list(COCO.names), "skeleton": []}
        file.write('], "categories": [' + json.dumps(category) + "]}")


def memory_mib(kind: str = "VmRSS") -> float:
    """Memory of this process: "VmRSS" now, "VmHWM" at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024, 1)


def private_mib() -> float:
    """Memory that this process shares with no other, in MiB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return round(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024, 1)


def _growth(people: CocoPeople, start_method: str) -> list[float]:
    """Private memory in MiB that two workers gain by receiving the data set and looking up its annotations."""
    context: Any = torch.multiprocessing.get_context(start_method)
    without, queue = context.Queue(), context.Queue()
    figures = []
    for argument, answers in ((None, without), (people, queue)):
        workers = [context.Process(target=_worker, args=(argument, answers)) for _ in range(2)]
        for worker in workers:
            worker.start()
        figures.append([answers.get() for _ in workers])
        for worker in workers:
            worker.join()
    return [round(own - min(figures[0]), 1) for own in figures[1]]


def _worker(people: CocoPeople | None, queue: Any) -> None:
    """Look up the annotations of as many images as some steps of training do; answer the private memory."""
    rng = np.random.default_rng(os.getpid())
    if people is not None:
        for index in rng.integers(0, len(people), STEPS * BATCH_SIZE).tolist():
            people.annotations_of(index)
    queue.put(private_mib())


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print and return the report."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        path = Path(options.file) if options.file else root / "people.json"
        if not path.exists():
            write(path, options.images, options.people)
        before, started = memory_mib(), time.perf_counter()
        people = CocoPeople(path, root / "images", COCO)
        read = {"seconds": round(time.perf_counter() - started, 2), "mib": round(memory_mib() - before, 1)}
        read["peak_mib"] = round(memory_mib("VmHWM") - before, 1)
        growth = {start: _growth(people, start) for start in ("fork", "forkserver", "spawn")}
        part = {"annotations": str(path), "images": str(root / "images"), "only_with_people": True}
        splits = {"train": part, "val": part, "test": part}
        dataset = DatasetOnDisk.from_plain({"kind": "coco", "keypoints": "coco", "root": "/", **splits})
        started = time.perf_counter()
        report = check_part("train", dataset.splits["train"], dataset, limit=0)
        check = {"seconds": round(time.perf_counter() - started, 2), "faults": report.num_faults}
        workload = {"images": options.images, "people": options.people, "file_mb": round(path.stat().st_size / 1e6)}
        figures = {"read": read, "worker_growth_mib": growth, "check": check, "num_images": len(people)}
        return print_report(workload, figures)


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = CommandLine(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=whole_number(1), default=200_000)
    parser.add_argument("--people", type=whole_number(1), default=267_000)
    parser.add_argument("--file", help="annotation file; written if it does not exist (default: a temporary one)")
    run(parser.parse_args())


if __name__ == "__main__":
    run_command(main, STDERR)
