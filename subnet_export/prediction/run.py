"""Images in, people out: the loop behind ``python -m subnet_export.predict``."""

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from subnet_export.ap_measurement import at_root
from subnet_export.exported_model import ExportedModel
from subnet_export.model import load_model
from subnet_export.prediction.sinks import LINES_FILE, STANDARD_OUTPUT, PredictionSinks, check_targets
from subnet_export.prediction.sources import Frame, Source, frames, list_sources
from subnet_export.prediction.tally import PredictionStats
from subnet_export.run_summary import prepare
from supernet.cli.console import CONSOLE, progress_bar
from supernet.cli.runs import point_latest, write_summary
from supernet.cli.signals import stop_request
from supernet.errors import UserError
from supernet.pose.datasets import build


def run(options: argparse.Namespace) -> None:
    """Predict as the command line asks.

    Raises:
        UserError: An option is wrong, or nothing could be used.
        SystemExit: With status 1, at the end: something could not be used, or the end was asked for early.
    """
    device = prepare(options)
    check_targets(options)
    sources = list_sources(options.sources)
    place = Path(options.model or Path(options.runs) / "export" / "latest")
    model = load_model(place, device, options.format)
    tally = PredictionStats()
    if sources:
        stream = _read(sources, tally.broken)
    else:
        stream = iter([_example(at_root(model.dataset, options.dataset_root), options.dataset_index or 0)])
    live = options.show or any(source.kind == "camera" for source in sources)
    total = options.limit
    if all(source.kind in ("image", "stdin") for source in sources):
        total = min(max(1, len(sources)), options.limit or sys.maxsize)
    with (
        PredictionSinks(options, model, image_numbers(sources), tally) as targets,
        stop_request() as stop_requested,
        # Not on standard output, so that files are closed and the summary written even if nobody reads that.
        progress_bar(Console(stderr=True)) as progress,
    ):
        task = progress.add_task("predicting", total=total, note="")

        def on_batch(last: Frame) -> bool:
            if len(sources) == 1 and last.num_frames:
                progress.update(task, total=min(last.num_frames, options.limit or sys.maxsize))
            progress.update(task, completed=tally.num_frames + len(tally.broken), note=last.source.name)
            return not stop_requested()

        batch_size = 1 if live else options.batch_size
        try:
            _predict(model, stream, targets, tally, options.limit, batch_size, options.min_score, on_batch)
        except BrokenPipeError:  # the program that reads the lines has all it wants
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            tally.watch.start(None)
    if not tally.num_frames:
        told = tally.broken[0] if len(tally.broken) == 1 else f"none of {len(tally.broken)} could be used, see above"
        raise UserError("stopped before the first image was done; start again" if tally.stopped else told)
    origin = {"model": str(place.resolve()), "keypoints": list(model.keypoints.names)}
    write_summary(options.folder, origin | tally.figures())
    if options.is_default_folder:
        point_latest(options.folder)
    lines = [*tally.report(options.folder), f"keypoints: {options.folder / LINES_FILE}"]
    # Standard output may belong to a program that reads the lines.
    console = Console(stderr=True) if options.jsonl == STANDARD_OUTPUT else CONSOLE
    text = "\n".join(lines).encode(console.encoding, "backslashreplace")  # file names may be any bytes
    console.print(text.decode(console.encoding), markup=False, highlight=False, soft_wrap=True)
    if tally.broken or (tally.stopped and not live):
        raise SystemExit(1)


def image_numbers(sources: Sequence[Source]) -> dict[str, int]:
    """Return the ids of COCO's images by file name, where every source is one: ``000000000139.jpg`` is 139.

    Empty unless all are images with distinct whole numbers for names.
    """
    names = [source.name for source in sources if source.kind == "image" and Path(source.name).stem.isdecimal()]
    numbers = {name: int(Path(name).stem) for name in names}
    return numbers if len(set(numbers.values())) == len(sources) else {}


def _read(sources: list[Source], broken: list[str]) -> Iterator[Frame]:
    """Yield the images of all sources; what cannot be read is told, added to ``broken`` and passed over."""
    for source in sources:
        try:
            yield from frames(source)
        except UserError as error:
            broken.append(str(error))
            if len(sources) > 1:
                print(f"skipped: {error}", file=sys.stderr)


def _example(dataset: Mapping[str, Any], index: int) -> Frame:
    """Return a test image of ``dataset`` with its annotated people."""
    images = build(dataset, "test")
    if index >= len(images):
        raise UserError(f"--dataset-index is {index}, but there are {len(images)} test images; give a smaller one")
    example = images[index]
    return Frame(Source(f"test_{index}", "image"), example.image, truth=example.people)


def _predict(
    model: ExportedModel,
    stream: Iterator[Frame],
    targets: PredictionSinks,
    tally: PredictionStats,
    limit: int | None,
    batch_size: int,
    min_score: float,
    on_batch: Callable[[Frame], bool],
) -> None:
    """Take images from ``stream`` to ``targets`` in batches, of which one is in memory, until somebody has enough."""
    watch = tally.watch
    left = sys.maxsize if limit is None else limit
    while True:
        watch.start("decode")
        batch = list(itertools.islice(stream, min(batch_size, left)))
        if not batch:
            return
        left -= len(batch)
        found = model.predict_all([frame.image for frame in batch], min_score, watch.start)
        for frame, people in zip(batch, found, strict=True):
            tally.stopped = not targets.write(frame, people)
            if tally.stopped:
                return
        tally.stopped = not on_batch(batch[-1])
        if tally.stopped:
            return
