"""One prediction run: images in, people out, in batches; called by ``python -m subnet_export.predict``."""

import argparse
import itertools
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from subnet_export.ap_measurement import at_root
from subnet_export.exported_model import ExportedModel
from subnet_export.model import load_model
from subnet_export.prediction.result_ids import ResultIds, ids_from_names, ids_of_annotations
from subnet_export.prediction.sources import Frame, Source, list_sources, read_frames
from subnet_export.prediction.stats import PredictionStats
from subnet_export.prediction.writer import LINES_FILE, STANDARD_OUTPUT, PredictionWriter, check_output_files
from subnet_export.runs import prepare, reserved_folder
from supernet.checkpoints.lineage import saw_only_drawings
from supernet.checkpoints.pretrained import DEFAULT_EXPORT, located
from supernet.cli.console import CONSOLE, progress_bar
from supernet.cli.runs import point_latest, write_summary
from supernet.cli.signals import stop_request
from supernet.errors import UserError
from supernet.pose.datasets import build

logger = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> None:
    """Predict as the command line asks.

    Raises:
        UserError: An option is wrong, or no image could be read.
        SystemExit: With status 1, at the end: a source could not be read, or the user stopped the run.
    """
    device = prepare(options)
    check_output_files(options)
    sources = list_sources(options.sources)
    model_name = _model_name(options)
    model = load_model(model_name, device, options.format)
    stats = PredictionStats()
    if sources:
        is_upright = _upright(options.exif, options.results is not None, model.dataset)
        sources = [replace(source, upright=is_upright) for source in sources]
        frames = _read_sources(sources, stats.errors)
    else:
        dataset = at_root(model.dataset, options.dataset_root, ", or name an image")
        frames = iter([_test_image(dataset, options.dataset_index or 0)])
    identity = ResultIds(ids_from_names(sources), model.category_id)
    if options.annotations is not None:
        identity = ids_of_annotations(options.annotations, sources, model.keypoints, model.dataset.get("category"))
    is_live = options.show or any(source.kind == "camera" for source in sources)
    batches = _batches(frames, 1 if is_live else options.batch_size, options.limit, stats)
    with (
        reserved_folder(options),
        PredictionWriter(options, model, identity, stats) as writer,
        stop_request() as stop_requested,
        # On standard error: if the reader of standard output ends, files must still be closed and the summary written.
        progress_bar(Console(stderr=True)) as progress,
    ):
        if sources:
            _warn_of_drawings(model)
        task = progress.add_task("predicting", total=_expected_images(sources, options.limit), note="")
        try:
            for batch in batches:
                images = [frame.image for frame in batch]
                predictions = model.predict_all(images, options.min_score, stats.stopwatch.start, len(images))
                goes_on = all(writer.write(*pair) for pair in zip(batch, predictions, strict=True))
                if len(sources) == 1 and batch[-1].num_frames:
                    progress.update(task, total=min(batch[-1].num_frames, options.limit or sys.maxsize))
                num_done = stats.num_frames + len(stats.errors)
                progress.update(task, completed=num_done, note=batch[-1].source.name)
                stats.stopped = not goes_on or stop_requested()
                if stats.stopped:
                    break
        except BrokenPipeError:  # the program that reads the lines has ended; the summary is still written
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            stats.stopwatch.start(None)
        if not stats.num_frames:  # within the folder's context, which leaves nothing behind
            raise _no_image_error(stats)
    origin = {"model": str(located(model_name).resolve()), "keypoints": list(model.keypoints.names)}
    origin["trained_on"] = [data.description for data in model.origin.trained_on]
    write_summary(options.folder, origin | stats.summary())
    if options.is_default_folder:
        point_latest(options.folder)
    _print_report(options, stats, model)
    if stats.errors or (stats.stopped and not is_live):
        raise SystemExit(1)


def _model_name(options: argparse.Namespace) -> str | Path:
    """Return the folder or name of the model: the one that is named, else the latest export, else the shipped one."""
    if options.model:
        return str(options.model)
    latest = Path(options.runs) / "export" / "latest"
    if latest.exists() or not options.sources:  # a shipped model brings no test images
        return latest
    logger.info("there is no %s; using %s, which was trained on photographs", latest, DEFAULT_EXPORT)
    return DEFAULT_EXPORT


def _warn_of_drawings(model: ExportedModel) -> None:
    """Log a warning if the model has learned poses from drawn people only."""
    if saw_only_drawings(model.origin.trained_on):
        logger.warning(
            "this model was trained on built-in drawn people only; on photographs it finds people where there are "
            "none; fine-tune it on photographs: python -m subnet_export.finetune --dataset coco --dataset-root FOLDER"
        )


def _upright(exif: str | None, for_results: bool, dataset: Mapping[str, Any]) -> bool:
    """Whether images are turned as their EXIF orientation says: as viewers show them, unless results are measured.

    Results are compared with annotations, so ``for_results`` follows the frame of those of the model's data set.
    """
    if exif is None and for_results and dataset.get("kind") == "coco":
        exif = dataset.get("exif", "stored")  # earlier releases knew no other
    return exif != "stored"


def _read_sources(sources: list[Source], errors: list[str]) -> Iterator[Frame]:
    """Yield the images of all sources; a source that cannot be read adds a message to ``errors`` and is skipped."""
    for source in sources:
        try:
            yield from read_frames(source)
        except UserError as error:
            errors.append(str(error))
            if len(sources) > 1:
                logger.warning("skipped: %s", error)


def _test_image(dataset: Mapping[str, Any], index: int) -> Frame:
    """Return a test image of ``dataset`` with its annotated people."""
    images = build(dataset, "test")
    if index >= len(images):
        raise UserError(f"--dataset-index must be less than {len(images)}, the number of test images, got {index}")
    sample = images[index]
    return Frame(Source(f"test_{index}", "image"), sample.image, truth=sample.people)


def _batches(
    frames: Iterator[Frame], batch_size: int, limit: int | None, stats: PredictionStats
) -> Iterator[list[Frame]]:
    """Yield up to ``limit`` images in batches, of which only one is in memory; counts the time of decoding."""
    num_left = sys.maxsize if limit is None else limit
    while True:
        stats.stopwatch.start("decode")
        batch = list(itertools.islice(frames, min(batch_size, num_left)))
        if not batch:
            return
        num_left -= len(batch)
        yield batch


def _expected_images(sources: list[Source], limit: int | None) -> int | None:
    """Return the number of images, or at least its limit; None if it is unknown."""
    if all(source.kind in ("image", "stdin") for source in sources):
        return min(max(1, len(sources)), limit or sys.maxsize)
    return limit


def _no_image_error(stats: PredictionStats) -> UserError:
    if stats.stopped:
        return UserError("stopped before the first image was done; start again")
    if len(stats.errors) == 1:
        return UserError(stats.errors[0])
    return UserError(f"none of {len(stats.errors)} sources could be read; see the messages above")


def _print_report(options: argparse.Namespace, stats: PredictionStats, model: ExportedModel) -> None:
    trained_on = "; ".join(data.description for data in model.origin.trained_on)
    lines = [*stats.report(options.folder), f"keypoints: {options.folder / LINES_FILE}"]
    lines.append(f"model trained on: {trained_on}")
    # Standard output may belong to the program that reads the lines.
    console = Console(stderr=True) if options.jsonl == STANDARD_OUTPUT else CONSOLE
    text = "\n".join(lines).encode(console.encoding, "backslashreplace")  # file names may be any bytes
    console.print(text.decode(console.encoding), markup=False, highlight=False, soft_wrap=True)
