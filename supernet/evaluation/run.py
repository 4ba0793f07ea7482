"""An evaluation run: from weights to a table of AP, in a run folder with the results in COCO's format."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
from rich import box
from rich.table import Table

from supernet.arch import Arch
from supernet.checkpoints.exported_network import is_exported, load_net
from supernet.checkpoints.supernet_file import load_supernet
from supernet.cli.console import CONSOLE, progress_bar
from supernet.cli.runs import create_run, discard_empty, point_latest, write_summary
from supernet.compute.distributed import Processes, process_group
from supernet.errors import UserError
from supernet.evaluation.sharded_inference import estimate_on_ranks
from supernet.evaluation.subnet_scorer import SubnetScorer, images_for
from supernet.io import files
from supernet.io.schema import check_least, from_mapping
from supernet.litepose import LitePose
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.datasets import resolved
from supernet.pose.drawing import save_image
from supernet.pose.evaluation import Evaluation, evaluate
from supernet.pose.geometry import check_scales
from supernet.pose.grouping import Matching
from supernet.pose.inference import InferenceSettings
from supernet.pose.plots import prediction_sheet

WAIT_SECONDS = 1800.0
"""How long a process waits for the others, whose images may take longer."""
RESULTS_FILE = "results.json"
IMAGE_FILE = "plots/predictions.png"


@dataclass(frozen=True)
class EvaluateSettings:
    """The options of ``conf/evaluate.yaml``, which documents them."""

    weights: str
    arch: str | None
    split: str
    num_images: int | None
    flip_test: bool | None
    scales: tuple[float, ...] | None
    adjust: bool | None
    refine: bool | None
    matching: Matching | None
    batch_size: int
    num_calibration_images: int
    plots: bool
    threads: int | None
    device: str
    runs: str
    name: str | None
    dataset: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Raise UserError for counts below what makes sense."""
        check_least(self, dict.fromkeys(("num_images", "batch_size", "num_calibration_images", "threads"), 1))

    def inference(self, measured: InferenceSettings, arch: Arch) -> InferenceSettings:
        """Return the settings that the weights were ``measured`` with, changed where these options say so.

        Raises:
            UserError: They are nonsense, or ``arch`` cannot take the scales.
        """
        names = ("flip_test", "scales", "adjust", "refine", "matching")
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        settings = replace(measured, **changes)
        check_scales(settings.scales, settings.size_divisor, arch.resolution)
        return settings


@dataclass(frozen=True)
class EvaluationTarget:
    """What is evaluated.

    Attributes:
        title: What it is, for people.
        arch: Of the network.
        prepared: Gives the network on its device, calibrated, in evaluation mode; a supernet's takes a moment.
        images: What it is evaluated on.
        inference: How its maps become people.
        origin: What the summary says of where it comes from.
    """

    title: str
    arch: Arch
    prepared: Callable[[], LitePose]
    images: PoseDataset
    inference: InferenceSettings
    origin: dict[str, Any]


def run(config: Mapping[str, Any]) -> Path:
    """Evaluate as configured and return the run folder.

    A subnet of a supernet is cut out and calibrated on training images; an exported model is calibrated already.
    Processes that ``torchrun`` started share the images out; the main one alone writes and speaks.

    Raises:
        UserError: A wrong option, or weights, arch or images that do not fit together; all before any evaluation.
    """
    settings = from_mapping(EvaluateSettings, config, "")
    with process_group(WAIT_SECONDS) as ranks:
        CONSOLE.quiet = not ranks.is_main
        return _run(settings, ranks)


def _run(settings: EvaluateSettings, ranks: Processes) -> Path:
    start = time.perf_counter()
    device = ranks.device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    cv2.setNumThreads(0)
    torch.backends.cudnn.deterministic = True
    make_subject = _exported if is_exported(settings.weights) else _subnet
    subject = make_subject(settings, device, ranks)
    folder = Path(ranks.of_main(lambda: str(create_run(settings.runs, "evaluate", settings.name))))
    CONSOLE.print(
        f"{subject.title} of {settings.weights}: {subject.arch.describe()}, on {device}"
        f"{f', {ranks.count} processes' if ranks.count > 1 else ''}; writing to {folder}",
        soft_wrap=True,
    )
    try:
        found = _evaluated(subject, settings, ranks)
    except BaseException as error:
        if ranks.is_main:
            discard_empty(folder)
        if isinstance(error, KeyboardInterrupt):
            raise UserError("stopped before the end; nothing was kept, start it again") from None
        raise
    if not ranks.is_main:
        return folder
    files.write_text(folder / RESULTS_FILE, json.dumps(found.results, allow_nan=False) + "\n")
    if settings.plots:
        save_image(folder / IMAGE_FILE, prediction_sheet(subject.images, found.people))
    num_images = len(found.people)
    summary = {
        "weights": str(Path(settings.weights).resolve()),
        "subject": subject.title,
        "arch": subject.arch.to_dict(),
        **subject.origin,
        "split": settings.split,
        "num_images": num_images,
        "inference": asdict(subject.inference),
        "batch_size": settings.batch_size,
        "processes": ranks.count,
        "metrics": found.metrics,
        "evaluator": found.tool,
        "num_detections": len(found.results),
        "images_per_second": round(num_images / found.seconds, 2),
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_summary(folder, summary)
    point_latest(folder)
    CONSOLE.print(metrics_table(found.metrics, f"{subject.title} on {num_images} {settings.split} images"))
    told = [f"results: {folder / RESULTS_FILE}", f"report: {folder / 'summary.json'}"]
    told += [f"images: {folder / IMAGE_FILE}"] * settings.plots
    CONSOLE.print("   ".join(told), soft_wrap=True)
    return folder


def metrics_table(metrics: Mapping[str, float], title: str) -> Table:
    """Return the metrics as a table of one row; what has no people to measure on is a dash."""
    table = Table(*metrics, title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_row(*("-" if value < 0 else f"{value:.3f}" for value in metrics.values()))
    return table


def _evaluated(subject: EvaluationTarget, settings: EvaluateSettings, ranks: Processes) -> Evaluation:
    """Calibrate if need be and evaluate, under a progress bar."""
    with progress_bar() as progress:
        task = progress.add_task("evaluating", total=len(subject.images), note="calibrating")

        def show(done: int, total: int) -> None:  # of this process; the others are about as far
            progress.update(task, completed=len(subject.images) * done // total)

        network = subject.prepared()
        progress.update(task, note="")
        found = evaluate(
            network,
            subject.images,
            subject.arch.resolution,
            subject.inference,
            settings.batch_size,
            device=next(network.parameters()).device,
            progress=show,
            estimate=partial(estimate_on_ranks, ranks),
        )
        progress.update(task, note=f"AP {found.metrics['AP']:.3f}")
    return found


def _exported(settings: EvaluateSettings, device: torch.device, _: Processes) -> EvaluationTarget:
    """Read an exported model, which is calibrated already."""
    if settings.arch is not None:
        raise UserError(f"{settings.weights} is an exported model, which has an arch of its own; leave out arch")
    net = load_net(settings.weights)
    arch = net.network.arch
    inference = settings.inference(net.settings, arch)
    dataset = net.dataset if settings.dataset is None else settings.dataset
    images = images_for(net.keypoints, dataset, settings.split, f"the exported model {settings.weights}")
    origin = {"dataset": dataset, "calibration": net.description["calibration"]}
    kept = CachedDataset(images, settings.num_images)
    return EvaluationTarget("exported model", arch, lambda: net.network.to(device), kept, inference, origin)


def _subnet(settings: EvaluateSettings, device: torch.device, ranks: Processes) -> EvaluationTarget:
    """Read a supernet, from which the chosen subnet is to be cut out and calibrated, by all ranks together."""
    if not Path(settings.weights).exists():
        raise UserError(
            f"there is no trained supernet or exported model at {settings.weights}; name a run of supernet.train or of "
            "subnet_export"
        )
    trained = load_supernet(settings.weights)
    space, place = trained.supernet.space, f"the supernet {trained.path}"
    if settings.arch in (None, "largest", "smallest"):
        title = f"{settings.arch or 'largest'} subnet"
        arch = space.smallest() if settings.arch == "smallest" else space.largest()
    else:
        title, arch = f"subnet {settings.arch}", Arch.load(settings.arch)
        try:
            space.check(arch)
        except UserError as error:
            raise UserError(f"arch file {settings.arch} does not fit {place}: {error}") from error
    inference = settings.inference(from_mapping(InferenceSettings, trained.evaluation, "evaluation"), arch)
    dataset = trained.dataset if settings.dataset is None else settings.dataset
    train_set = images_for(trained.keypoints, dataset, "train", place)
    dataset = resolved(dataset, trained.keypoints)
    images = CachedDataset(images_for(trained.keypoints, dataset, settings.split, place), settings.num_images)
    trained.supernet.to(device)
    scorer = SubnetScorer(
        trained.supernet, train_set, images, inference, settings.num_calibration_images, settings.batch_size, ranks
    )
    calibration = {
        "split": "train",
        "num_images": min(settings.num_calibration_images, len(train_set)),
        "resolution": arch.resolution,
    }
    origin = {"dataset": dataset, "calibration": calibration}
    return EvaluationTarget(title, arch, lambda: scorer.subnet(arch), images, inference, origin)
