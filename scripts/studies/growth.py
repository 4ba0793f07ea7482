"""Study: how times and memory grow with what a user asks for. Prints JSON.

    python -m scripts.studies.growth candidates --supernet RUN     # a minute, against images, resolution, processes
    python -m scripts.studies.growth costs                         # a second, against the size of the space
    python -m scripts.studies.growth report --search FOLDER        # seconds, against the candidates of a search
    python -m scripts.studies.growth annotations                   # memory, against annotated images

Times are processor time, which depends little on other programs, except those of ``candidates`` by processes.
``report`` repeats the candidates of a finished search under new names, with other AP, and without the results of each
image, so without intervals. ``annotations`` measures each size in a process of its own, on files without images.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmarks.annotations import memory_mib, write
from scripts.benchmarks.timing import load_averages, print_report
from supernet.cli.console import STDERR, run_command
from supernet.io import files

NUM_KEYPOINTS = 17
SPACES = ("photos", "nano", "nano_long", "litepose")
REPEATS = 3
Figures = list[dict[str, Any]]


def processor_seconds(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median processor time of a function, after one call to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])


def candidates(options: argparse.Namespace) -> dict[str, Figures]:
    """Candidates a minute against images, resolution and processes."""
    from supernet.compute.cpu_tuning import prefer_throughput

    prefer_throughput()
    import cv2
    import torch

    from scripts.benchmarks.search import scorer_and_images
    from supernet.pose.data.subset import evenly_spread

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    most = max(options.images)
    settings = argparse.Namespace(
        images=most,
        calibration_images=options.calibration_images,
        photos=options.photos,
        drawn_supernet=options.supernet,
    )
    scorer, images = scorer_and_images("drawn" if options.photos is None else "photos", settings)
    space = scorer.supernet.space
    arch = space.sample(np.random.default_rng(0))
    scorer.num_workers = 1
    own_resolution = replace(arch, resolution=max(space.resolutions))

    def rate(arch: Any, number: int) -> dict[str, Any]:
        chosen = evenly_spread(images, number)
        seconds = processor_seconds(lambda: scorer.score(arch, chosen), options.repeats)
        return {"seconds": round(seconds, 2), "per_minute_and_core": round(60 / seconds, 2)}

    figures: dict[str, Figures] = {
        "images": [{"images": number, **rate(own_resolution, number)} for number in options.images],
        "resolution": [
            {"resolution": resolution, "images": most, **rate(replace(arch, resolution=resolution), most)}
            for resolution in space.resolutions
        ],
        "processes": [],
    }
    for workers in options.workers:
        torch.set_num_threads(workers)
        scorer.num_workers, elapsed = workers, []
        for _ in range(options.repeats):
            start = time.perf_counter()
            scorer.score(own_resolution, images)
            elapsed.append(time.perf_counter() - start)
        seconds = statistics.median(elapsed)
        row = {"processes": workers, "elapsed_seconds": round(seconds, 2), "per_minute": round(60 / seconds, 2)}
        figures["processes"].append(row)
    return figures


def costs_by_space(options: argparse.Namespace) -> Figures:
    """Costs a second of random archs, and the time to make the tables, against the size of the space."""
    from search.cost import costs
    from supernet.costs.cost_tables import CostTables
    from supernet.space import SearchSpace

    rows = []
    for name in SPACES:
        space = SearchSpace.load(name)
        genes = space.layout.sample(np.random.default_rng(0), options.archs)
        row = {"space": name, "subnets": float(space.count()), "genes": genes.shape[1]}
        row["table_seconds"] = round(processor_seconds(partial(CostTables, space, NUM_KEYPOINTS)), 3)
        seconds = processor_seconds(partial(costs, space, genes, NUM_KEYPOINTS))
        rows.append({**row, "archs_per_second": round(options.archs / seconds)})
    return rows


def report_by_candidates(options: argparse.Namespace) -> Figures:
    """Processor time and size of a report of searches, against their candidates."""
    source = Path(options.search)
    own = files.read_json(source / "candidates.json", "candidates")
    rng, rows = np.random.default_rng(0), []
    for count in options.candidates:
        with tempfile.TemporaryDirectory() as place:
            more = [_like(own[number % len(own)], number, rng) for number in range(len(own), count)]
            files.write_json(Path(place) / "candidates.json", own + more)
            files.write_json(Path(place) / "summary.json", files.read_json(source / "summary.json", "summary"))
            seconds = processor_seconds(partial(_page, place))
            size = len(_page(place).encode()) / 2**20
        rows.append({"candidates": len(own) + len(more), "seconds": round(seconds, 3), "page_mib": round(size, 2)})
    return rows


def _page(place: str) -> str:
    """The report of the search in one folder."""
    from search.report.comparison import comparison
    from search.report.finished_search import read_searches

    return comparison(read_searches([place], "runs"))


def _like(row: dict[str, Any], number: int, rng: np.random.Generator) -> dict[str, Any]:
    """A candidate with the costs and the AP of another one, each changed by up to a tenth."""
    change = float(rng.uniform(0.9, 1.1))
    changed = {name: type(value)(value * change) for name, value in row["costs"].items()}
    metrics = json.loads(json.dumps(row["metrics"]))
    values = metrics.get("val", metrics)
    values["AP"] *= float(rng.uniform(0.9, 1.1))
    return {**row, "digest": f"{row['digest']}-{number}", "order": number, "costs": changed, "metrics": metrics}


def memory_by_annotations(options: argparse.Namespace) -> Figures:
    """Memory and time of reading annotation files of several sizes."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in options.images:
            path = Path(folder) / f"{count}.json"
            write(path, count, count * 4 // 3)
            command = [sys.executable, "-m", "scripts.studies.growth", "read-annotations", "--file", str(path)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows.append({"images": count, "file_mb": round(path.stat().st_size / 1e6, 1), **json.loads(answer)})
            path.unlink()
    return rows


def read_annotations(path: str) -> dict[str, float]:
    """Memory and processor time of reading one annotation file in this process."""
    from supernet.pose.coco.dataset import CocoPeople
    from supernet.pose.keypoints import COCO

    (Path(path).parent / "images").mkdir(exist_ok=True)
    before, start = memory_mib(), time.process_time()
    people = CocoPeople(Path(path), Path(path).parent / "images", COCO)
    seconds = time.process_time() - start
    assert len(people)
    kept = round(memory_mib() - before, 1)
    return {"seconds": round(seconds, 2), "kept_mib": kept, "peak_mib": round(memory_mib("VmHWM") - before, 1)}


def main(arguments: list[str] | None = None) -> None:
    """Measure one kind of growth and print it."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", help="also write the JSON to this file")
    kinds = parser.add_subparsers(dest="what", required=True)
    part = kinds.add_parser("candidates", help="candidates a minute")
    part.add_argument("--supernet", default="runs/train/latest", help="run of supernet.train on built-in people")
    part.add_argument("--photos", help="folder of coco_people: pretrained:photos on photographs instead")
    part.add_argument("--images", type=int, nargs="+", default=[25, 50, 100, 200], help="validation images")
    part.add_argument("--calibration-images", type=int, default=64, help="training images per candidate")
    part.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes that share the images")
    part.add_argument("--repeats", type=int, default=REPEATS, help="scores of an arch, of which the median counts")
    part = kinds.add_parser("costs", help="costs a second")
    part.add_argument("--archs", type=int, default=20_000, help="random archs")
    part = kinds.add_parser("report", help="seconds of a report")
    part.add_argument("--search", default="runs/evolve/latest", help="folder of a finished search")
    part.add_argument("--candidates", type=int, nargs="+", default=[60, 250, 1000, 4000], help="candidates of a search")
    part = kinds.add_parser("annotations", help="memory of annotations")
    part.add_argument("--images", type=int, nargs="+", default=[5000, 20_000, 80_000], help="annotated images")
    part = kinds.add_parser("read-annotations", help="what `annotations` starts")
    part.add_argument("--file", required=True, help="annotation file")
    options = parser.parse_args(arguments)
    if options.what == "read-annotations":
        print(json.dumps(read_annotations(options.file)))
        return
    measure: dict[str, Callable[[argparse.Namespace], Any]] = {
        "candidates": candidates,
        "costs": costs_by_space,
        "report": report_by_candidates,
        "annotations": memory_by_annotations,
    }
    results = measure[options.what](options)
    workload = {name: value for name, value in vars(options).items() if name != "output"}
    workload |= {"load": load_averages()}
    print_report(workload, {"results": results}, options.output)


if __name__ == "__main__":
    run_command(main, STDERR)
