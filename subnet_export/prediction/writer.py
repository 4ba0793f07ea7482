"""Writes, draws and shows the people of each image, as the options of a prediction run ask."""

import argparse
import sys
from pathlib import Path

from subnet_export.exported_model import ExportedModel
from subnet_export.prediction.drawings import Drawings, draw_frame
from subnet_export.prediction.outputs import CocoResults, JsonLines, Output, image_record
from subnet_export.prediction.result_ids import ResultIds
from subnet_export.prediction.sources import Frame
from subnet_export.prediction.stats import PredictionStats
from subnet_export.prediction.window import Window
from supernet.errors import UserError
from supernet.io.new_folder import check_new
from supernet.pose.inference import PosePredictions

LINES_FILE = "people.jsonl"
STANDARD_OUTPUT = Path("-")


def check_output_files(options: argparse.Namespace) -> None:
    """Raise UserError if a file to be written exists already, or if two outputs would be the same file."""
    if options.results == STANDARD_OUTPUT:
        raise UserError("--results writes a file, got -; name one, or give --jsonl - for lines on standard output")
    paths = [path for path in (options.results, options.jsonl) if path is not None and path != STANDARD_OUTPUT]
    for path in paths:
        check_new(path)
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(f"--results and --jsonl both name {paths[0]}; give them different files")
    own = [(options.folder / name).resolve() for name in (LINES_FILE, "summary.json")]
    for path in paths:
        if path.resolve() in own:
            raise UserError(f"{path} is a file that every run writes to its folder; leave out the option or rename it")


class PredictionWriter(Output):
    """All outputs of a prediction run.

    Args:
        options: Of the command line: ``folder``, ``jsonl``, ``results``, ``no_drawings``, ``show`` and
            ``min_keypoint``, the value above which keypoints are drawn.
        model: Whose people these are.
        identity: Ids that results carry.
        stats: Counts what is written, and the time it takes.

    Raises:
        UserError: A window is asked for, and this machine cannot show one.
    """

    def __init__(
        self, options: argparse.Namespace, model: ExportedModel, identity: ResultIds, stats: PredictionStats
    ) -> None:
        super().__init__()
        self._model, self._image_ids, self._stats = model, identity.images, stats
        self._least_value: float = options.min_keypoint
        enter = self._opened.enter_context
        self._lines = [enter(JsonLines(options.folder / LINES_FILE))]
        if options.jsonl is not None:
            self._lines.append(enter(JsonLines(sys.stdout if options.jsonl == STANDARD_OUTPUT else options.jsonl)))
        self._drawings = None if options.no_drawings else enter(Drawings(options.folder))
        self._results = None if options.results is None else enter(CocoResults(options.results, identity.category))
        self._window = Window() if options.show else None
        if self._window is not None:
            self._opened.callback(self._window.close)

    def write(self, frame: Frame, people: PosePredictions) -> bool:
        """Draw, write and show one image.

        Returns:
            False if the user ended the run in the window.

        Raises:
            BrokenPipeError: The program that reads standard output has ended.
            UserError: A file cannot be written.
        """
        stopwatch, drawing, drawing_name = self._stats.stopwatch, None, None
        if self._drawings is not None or self._window is not None:
            stopwatch.start("drawing")
            drawing = draw_frame(frame, people, self._model.keypoints, self._least_value)
        stopwatch.start("writing")
        if self._drawings is not None and drawing is not None:
            drawing_name = self._drawings.write(frame, drawing)
        image_id = self._image_ids.get(frame.source.name, self._stats.num_frames + 1)
        if self._results is not None:
            self._results.write(people, image_id)
        self._stats.add(frame.source, len(people.scores), drawing_name)
        record = image_record(frame, people, image_id, drawing_name)
        for lines in self._lines:
            lines.write(record)
        if self._window is None or drawing is None:
            return True
        stopwatch.start(None)  # the window may wait for a key
        return self._window.show(drawing, wait=frame.number is None)
