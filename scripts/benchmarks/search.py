"""Measure what a candidate of a search costs, beside the same candidates scored by another commit. Prints JSON.

Run as ``python -m scripts.benchmarks.search [--before COMMIT] [--workloads drawn photos litepose_s] [--threads 2]``.

Both sides score the same archs as a generation of their search, in turns (A B, B A, ...), each in a process of its own
that has loaded its images and scored one arch of each resolution before. ``before`` is checked out into a temporary
worktree. Ratios are those of two turns that follow each other; on a busy machine those of processor time, which counts
all processes, say more.

- ``drawn``: built-in people, space ``nano``; give ``--drawn-supernet``, a run of ``supernet.train`` with the defaults.
- ``photos``: ``pretrained:photos`` on photographs; give ``--photos``, the folder of ``dataset=coco_people``.
- ``litepose_s``: archs near LitePose-S at 448 px on built-in people of 640 x 480. The weights are untrained and find
  nobody, so grouping costs only its search for peaks.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
WORKLOADS = ("drawn", "photos", "litepose_s")
Figures = dict[str, Any]


def candidates(workload: str, space: Any, count: int) -> list[Any]:
    """Archs to score: random ones, or for ``litepose_s`` LitePose-S at 448 px, unchanged every time."""
    from supernet.arch import Arch

    if workload == "litepose_s":
        costs = json.loads((ROOT / "tests" / "golden" / "costs.json").read_text(encoding="utf-8"))
        entry = next(item for item in costs if item["name"] == "search-S" and item["joints"] == 17)
        return [replace(Arch.from_dict(entry["arch"]), resolution=448)] * count
    rng = np.random.default_rng(0)
    return [space.sample(rng) for _ in range(count)]


def scorer_and_images(workload: str, options: argparse.Namespace) -> tuple[Any, Any]:
    """A scorer as the search makes it, and the validation images; only names that both sides have."""
    import torch
    import yaml

    from supernet.checkpoints.supernet_file import load_supernet
    from supernet.evaluation.subnet_scorer import SubnetScorer, split_for
    from supernet.io.schema import from_mapping
    from supernet.pose.data.cached import CachedDataset
    from supernet.pose.data.pose_dataset import PoseDataset
    from supernet.pose.data.subset import evenly_spread
    from supernet.pose.inference import InferenceSettings
    from supernet.pose.keypoints import COCO
    from supernet.pose.synthetic.dataset import SyntheticPeople
    from supernet.space import SearchSpace
    from supernet.weight_sharing import SuperNet

    settings = InferenceSettings()
    train: PoseDataset
    val: PoseDataset
    if workload == "litepose_s":
        torch.manual_seed(0)
        supernet = SuperNet(SearchSpace.load("litepose"), COCO.num)
        train, val = (SyntheticPeople(COCO, options.images, seed, 640, 480) for seed in (1, 2))
    else:
        # The shipped weights as a file, so that an earlier commit scores these and not its own.
        shipped = ROOT / "supernet" / "pretrained" / "photos.pt"
        trained = load_supernet(options.drawn_supernet if workload == "drawn" else str(shipped))
        supernet, settings = trained.supernet, from_mapping(InferenceSettings, trained.evaluation, "evaluation")
        dataset = dict(trained.dataset)
        if workload == "photos":
            conf = ROOT / "conf" / "dataset"
            dataset, own = (
                yaml.safe_load((conf / f"{name}.yaml").read_text(encoding="utf-8")) for name in ("coco", "coco_people")
            )
            dataset |= {split: {**dataset[split], **own[split]} for split in ("train", "val", "test")}
            dataset["root"] = options.photos
        train, val = (split_for(trained.keypoints, dataset, split, workload) for split in ("train", "val"))
    images = evenly_spread(CachedDataset(val), options.images)
    more: dict[str, Any] = {}
    if "num_workers" in SubnetScorer.__dataclass_fields__:
        more["num_workers"] = torch.get_num_threads()
    number = options.calibration_images
    return SubnetScorer(supernet, train, images, settings, num_calibration_images=number, **more), images


def serve(workload: str, options: argparse.Namespace) -> None:
    """Score all archs for every line that comes in, and print a line of figures."""
    with contextlib.suppress(ImportError):  # a search calls it before it imports PyTorch; earlier commits did not
        from supernet.compute.cpu_tuning import HUGE_PAGES, prefer_throughput

        assert HUGE_PAGES
        prefer_throughput()
    import cv2
    import torch

    from search.runs import problem

    torch.set_num_threads(options.threads)
    cv2.setNumThreads(0)
    scorer, images = scorer_and_images(workload, options)
    archs = candidates(workload, scorer.supernet.space, options.candidates)
    for arch in {arch.resolution: arch for arch in archs}.values():
        problem.measure_subnet(scorer, arch, images)
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), _processor_seconds()
        if hasattr(problem, "measure_subnets"):
            by_number: dict[int, Any] = dict(problem.measure_subnets(scorer, archs, images))
        else:  # earlier commits score one after the other
            by_number = {number: problem.measure_subnet(scorer, arch, images) for number, arch in enumerate(archs)}
        measured = [by_number[number] for number in range(len(archs))]
        metrics = [getattr(one, "metrics", one) for one in measured]  # earlier commits return the metrics themselves
        usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        figures = {
            "wall_s": time.perf_counter() - wall,
            "processor_s": _processor_seconds() - processor,
            "aps": [float(one["AP"]) for one in metrics],
            "peak_memory_mib": max(usage.ru_maxrss for usage in usages) // 1024,
        }
        print(json.dumps(figures), flush=True)


def _processor_seconds() -> float:
    """Processor time of this process and of those that it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A worktree of a commit, removed at the end; a folder as it is."""
    if Path(commit).is_dir():
        yield Path(commit).resolve()
        return
    from supernet.errors import UserError

    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "before"
        if subprocess.run([*git, "add", "--quiet", "--detach", str(place), commit], check=False).returncode != 0:
            raise UserError(f"--before must be a commit of this repository or a folder, got {commit!r}")
        try:
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], check=True)


@contextlib.contextmanager
def server(root: Path, workload: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that scores with the code in ``root``, ready to take numbers of archs."""
    command = [sys.executable, "-P", str(Path(__file__).resolve()), *sys.argv[1:], "--in-process", workload]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        command, env=environment, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        if (first := process.stdout.readline()) != "ready\n":
            print(f"the process that scores with {root} failed; its message is above", file=sys.stderr)
            raise SystemExit(process.wait() if first == "" else 1)
        yield process
    finally:
        process.kill()
        process.wait()


def answer(process: "subprocess.Popen[str]") -> Figures:
    """Figures of all archs from one side."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("score\n")
    process.stdin.flush()
    figures: Figures = json.loads(process.stdout.readline())
    return figures


def compared(before: Path, workload: str, options: argparse.Namespace) -> Figures:
    """Both sides on the candidates of one workload, in turns."""
    from scripts.benchmarks.timing import spread

    rows: dict[str, list[Figures]] = {"before": [], "now": []}
    with server(before, workload) as old, server(ROOT, workload) as new:
        sides = {"before": old, "now": new}
        for turn in range(options.turns):
            for side in sorted(sides, reverse=bool(turn % 2)):
                rows[side].append(answer(sides[side]))
                print(workload, turn, side, json.dumps(rows[side][-1]), file=sys.stderr, flush=True)
    result: Figures = {}
    for clock in ("wall_s", "processor_s"):
        pairs = [(first[clock], second[clock]) for first, second in zip(rows["before"], rows["now"], strict=True)]
        for side, values in zip(rows, zip(*pairs, strict=True), strict=True):
            result[f"{side}_{clock}"] = spread([value / options.candidates for value in values])
        result[f"ratio_{clock}"] = spread([first / second for first, second in pairs])
    aps = {side: side_rows[0]["aps"] for side, side_rows in rows.items()}
    differences = [abs(first - second) for first, second in zip(aps["before"], aps["now"], strict=True)]
    for side, side_rows in rows.items():
        result[f"{side}_candidates_per_minute"] = round(60 / result[f"{side}_wall_s"]["median"], 2)
        result[f"{side}_peak_memory_mib"] = max(row["peak_memory_mib"] for row in side_rows)
    order = {side: np.argsort([-ap for ap in values], kind="stable").tolist() for side, values in aps.items()}
    return result | {
        "aps": {side: [round(ap, 5) for ap in values] for side, values in aps.items()},
        "largest_ap_difference": round(max(differences), 6),
        "same_ranking": order["before"] == order["now"],
    }


def main() -> None:
    """Compare both sides, or be one of them."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--before", default="8669710", help="commit to compare with, or a folder with its files")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="what to score")
    parser.add_argument("--candidates", type=int, default=6, help="archs that both sides score")
    parser.add_argument("--turns", type=int, default=2, help="times that each side scores all archs")
    parser.add_argument("--images", type=int, default=100, help="validation images per arch")
    parser.add_argument("--calibration-images", type=int, default=64, help="training images per arch")
    parser.add_argument("--threads", type=int, default=2, help="cores that a candidate may use")
    parser.add_argument("--drawn-supernet", default="runs/train/latest", help="run of supernet.train, space nano")
    parser.add_argument("--photos", help="folder of coco_people")
    parser.add_argument("--output", help="also write the JSON to this file")
    parser.add_argument("--in-process", choices=WORKLOADS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    # Not decorated: a process with the code of an earlier commit runs this file, too.
    from supernet.cli.console import fail
    from supernet.errors import UserError

    try:
        if options.in_process is None:
            compare(parser, options)
        else:
            serve(options.in_process, options)
    except UserError as error:
        fail(error)


def compare(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Compare both sides on each workload, and print the results."""
    if "photos" in options.workloads and options.photos is None:
        parser.error("the workload photos needs --photos, the folder of coco_people")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # removes the worktree
    options.drawn_supernet = str(Path(options.drawn_supernet).resolve())

    from scripts.benchmarks.timing import load_averages, print_report

    with checked_out(options.before) as before:
        results = {workload: compared(before, workload, options) for workload in options.workloads}
    workload = {name: value for name, value in vars(options).items() if name not in ("in_process", "output")}
    workload |= {"load": load_averages()}
    print_report(workload, {"results": results}, options.output)


if __name__ == "__main__":
    main()
