"""An evaluation run: from weights to a table of AP, in a run folder with the results in COCO's format."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch

from supernet.arch import Arch
from supernet.checkpoints.exported_network import is_exported, load_net, model_of_file
from supernet.checkpoints.pretrained import located
from supernet.checkpoints.supernet_file import is_supernet, load_supernet
from supernet.cli.console import CONSOLE, progress_bar
from supernet.cli.runs import create_run, discard_empty, planned_run, point_latest, write_summary
from supernet.compute.cpu_tuning import prefer_throughput
from supernet.compute.distributed import Processes, process_group
from supernet.compute.precision import tf32
from supernet.errors import UserError
from supernet.evaluation.metrics_table import format_metric, metrics_table
from supernet.evaluation.sharded_inference import predict_sharded
from supernet.evaluation.subnet_estimator import subnet_estimator
from supernet.evaluation.subnet_scorer import SubnetScorer, chosen_dataset, split_for
from supernet.io import files
from supernet.io.schema import check_numbers, from_mapping
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.pose_dataset import PoseDataset, original_of
from supernet.pose.datasets import resolved
from supernet.pose.drawing import save_image
from supernet.pose.evaluation import Evaluation, evaluate
from supernet.pose.geometry import check_scales
from supernet.pose.grouping import Matching
from supernet.pose.inference import InferenceSettings, PoseEstimator
from supernet.pose.plots import prediction_sheet
from supernet.pose.subpixel import Decoding

WAIT_SECONDS = 1800.0
"""How long a process waits for the others, whose images may take longer."""
RESULTS_FILE = "results.json"
IMAGE_FILE = "plots/predictions.png"

logger = logging.getLogger(__name__)


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
    decoding: Decoding | None
    batch_size: int
    num_calibration_images: int
    plots: bool
    threads: int | None
    device: str
    runs: str
    name: str | None
    dataset: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Raise UserError for counts below 1."""
        check_numbers(self, "num_images", "batch_size", "num_calibration_images", "threads", least=1)

    def inference(self, measured: InferenceSettings, arch: Arch) -> InferenceSettings:
        """Return the settings that the weights were ``measured`` with, changed where these options say so.

        Raises:
            UserError: A value is out of range, or ``arch`` cannot take the scales.
        """
        names = ("flip_test", "scales", "adjust", "refine", "matching", "decoding")
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        settings = replace(measured, **changes)
        check_scales(settings.scales, settings.size_divisor, arch.resolution)
        return settings


@dataclass(frozen=True)
class EvaluationTarget:
    """A network to evaluate, and the images to evaluate it on.

    Attributes:
        title: "exported model", or which subnet it is.
        arch: Architecture of the network.
        inference: How its maps become people.
        make_estimator: Returns the network as a calibrated estimator; that of a subnet takes a moment.
        dataset: The images.
        origin: Entries of the summary about data set and calibration.
    """

    title: str
    arch: Arch
    inference: InferenceSettings
    make_estimator: Callable[[], PoseEstimator]
    dataset: PoseDataset
    origin: dict[str, Any]


def run(config: Mapping[str, Any]) -> Path:
    """Evaluate as configured and return the run folder.

    A subnet of a supernet is extracted and calibrated on training images; an exported model is calibrated already.
    Processes that ``torchrun`` started share the images; only the main one writes and prints.

    Raises:
        UserError: A wrong option, or weights, arch or images that do not fit together; all before any evaluation.
    """
    settings = from_mapping(EvaluateSettings, config, "")
    with process_group(WAIT_SECONDS) as processes:
        return _run(settings, processes)


def _run(settings: EvaluateSettings, processes: Processes) -> Path:
    start = time.perf_counter()
    device = processes.device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    prefer_throughput()
    cv2.setNumThreads(0)
    torch.backends.cudnn.deterministic = True
    if (model := model_of_file(settings.weights)) is not None and not is_supernet(settings.weights):
        raise UserError(
            f"weights={settings.weights} is a file of the exported model in {model}; give this folder, whose network "
            "is evaluated in PyTorch"
        )
    processes.on_main(lambda: str(planned_run(settings.runs, "evaluate", settings.name)))
    make_target = _exported if is_exported(settings.weights) else _subnet
    target = make_target(settings, device, processes)
    folder = Path(processes.on_main(lambda: str(create_run(settings.runs, "evaluate", settings.name))))
    if processes.is_main:
        shared = f", {processes.count} processes" if processes.count > 1 else ""
        logger.info(
            "%s of %s: %s, on %s%s; writing to %s",
            *(target.title, settings.weights, target.arch.describe(), device, shared, folder),
        )
    try:
        evaluation = _evaluate(target, processes)
    except BaseException as error:
        if processes.is_main:
            discard_empty(folder)
        if isinstance(error, KeyboardInterrupt):
            raise UserError("stopped before the end; nothing was kept, start it again") from None
        raise
    if processes.is_main:
        num_images = len(evaluation.predictions)
        summary = {
            "weights": str(located(settings.weights).resolve()),
            "subject": target.title,
            "arch": target.arch.to_dict(),
            **target.origin,
            "split": settings.split,
            "num_images": num_images,
            "inference": asdict(target.inference),
            "batch_size": settings.batch_size,
            "processes": processes.count,
            "metrics": evaluation.metrics,
            "evaluator": evaluation.tool,
            "num_detections": len(evaluation.results),
            "images_per_second": round(num_images / evaluation.seconds, 2),
            "stages": evaluation.times.summary(),
            "seconds": round(time.perf_counter() - start, 1),
        }
        _write(folder, evaluation, target.dataset if settings.plots else None, summary)
        title = f"{target.title} on {num_images} {settings.split} images"
        CONSOLE.print(metrics_table(title, evaluation.metrics))
        paths = [f"results: {folder / RESULTS_FILE}", f"report: {folder / 'summary.json'}"]
        paths += [f"images: {folder / IMAGE_FILE}"] * settings.plots
        CONSOLE.print("   ".join(paths), soft_wrap=True)
    return folder


def _write(folder: Path, evaluation: Evaluation, drawn: PoseDataset | None, summary: dict[str, Any]) -> None:
    """Write results and summary, and a sheet of predictions on the images of ``drawn``; then point ``latest`` here."""
    files.write_text(folder / RESULTS_FILE, json.dumps(evaluation.results, allow_nan=False) + "\n")
    if drawn is not None:
        save_image(folder / IMAGE_FILE, prediction_sheet(drawn, evaluation.predictions))
    write_summary(folder, summary)
    point_latest(folder)


def _evaluate(target: EvaluationTarget, processes: Processes) -> Evaluation:
    """Calibrate if needed and evaluate, under a progress bar in the main process."""
    with progress_bar(disable=not processes.is_main) as progress, tf32(allowed=False):
        task = progress.add_task("evaluating", total=len(target.dataset), note="calibrating")

        def show(done: int, total: int) -> None:  # of this process; the others are about as far
            progress.update(task, completed=len(target.dataset) * done // total)

        estimator = target.make_estimator()
        progress.update(task, note="")
        predict = partial(predict_sharded, processes, num_workers=torch.get_num_threads())
        evaluation = evaluate(estimator, target.dataset, progress=show, predict=predict)
        progress.update(task, note=f"AP {format_metric(evaluation.metrics['AP'])}")
    return evaluation


def _exported(settings: EvaluateSettings, device: torch.device, _: Processes) -> EvaluationTarget:
    """Read an exported model, which is calibrated already."""
    if settings.arch is not None:
        raise UserError(f"{settings.weights} is an exported model, which has its own arch; leave out arch")
    net = load_net(settings.weights)
    arch = net.network.arch
    inference = settings.inference(net.settings, arch)
    description = chosen_dataset(settings.dataset, net.dataset, settings.weights)
    images = split_for(net.keypoints, description, settings.split, f"the exported model {settings.weights}")
    dataset = _evaluated(images, settings.num_images)

    def make_estimator() -> PoseEstimator:
        return subnet_estimator(net.network.to(device), net.keypoints, inference, settings.batch_size)

    origin = {"dataset": description, "calibration": net.description["calibration"]}
    return EvaluationTarget("exported model", arch, inference, make_estimator, dataset, origin)


def _subnet(settings: EvaluateSettings, device: torch.device, processes: Processes) -> EvaluationTarget:
    """Read a supernet, from which all processes together will extract and calibrate the chosen subnet."""
    if not located(settings.weights).exists():
        raise UserError(
            f"there is no trained supernet or exported model at {settings.weights}; run python -m "
            "supernet.train first or give another path"
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
    description = chosen_dataset(settings.dataset, trained.dataset, settings.weights)
    train_set = split_for(trained.keypoints, description, "train", place)
    description = resolved(description, trained.keypoints, train_set)
    images = split_for(trained.keypoints, description, settings.split, place)
    dataset = _evaluated(images, settings.num_images)
    trained.supernet.to(device)
    num_images = settings.num_calibration_images
    scorer = SubnetScorer(trained.supernet, train_set, dataset, inference, num_images, settings.batch_size, processes)
    calibration = {
        "split": "train",
        "num_images": min(num_images, len(train_set)),
        "resolution": arch.resolution,
    }
    origin = {"dataset": description, "calibration": calibration}
    return EvaluationTarget(title, arch, inference, lambda: scorer.estimator(arch), dataset, origin)


def _evaluated(images: PoseDataset, num_images: int | None) -> PoseDataset:
    """Return the first ``num_images`` of a split; none takes the place of a broken one, whose people count in AP."""
    return CachedDataset(original_of(images), num_images, memory_bytes=0)  # each image is read once
