"""Everything that a prediction run writes and shows, image by image."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from subnet_export.exported_model import ExportedModel
from subnet_export.prediction.drawings import Drawings, draw_frame
from subnet_export.prediction.outputs import CocoResults, JsonLines, Output, as_line
from subnet_export.prediction.sources import Frame
from subnet_export.prediction.tally import PredictionStats
from subnet_export.prediction.window import Window
from supernet.errors import UserError
from supernet.io.new_folder import check_new
from supernet.pose.inference import PosePredictions

LINES_FILE = "people.jsonl"
STANDARD_OUTPUT = Path("-")


def check_targets(options: argparse.Namespace) -> None:
    """Raise UserError if a file to be written exists, or if two are one."""
    targets = [path for path in (options.results, options.jsonl) if path is not None and path != STANDARD_OUTPUT]
    for path in targets:
        check_new(path)
    if len({path.resolve() for path in targets}) < len(targets):
        raise UserError(f"--results and --jsonl both name {targets[0]}; give them different files")


class PredictionSinks(Output):
    """Where each image and its people go, as the command line asks.

    Args:
        options: Of the command line: ``folder``, ``jsonl``, ``results``, ``no_drawings`` and ``show``.
        model: Whose keypoints are drawn, those at least that it counts as found.
        numbers: Ids of images by name; the others are counted from 1.
        tally: What is written is counted here, with the time that it took.

    Raises:
        UserError: There is nothing to show images on.
    """

    def __init__(
        self, options: argparse.Namespace, model: ExportedModel, numbers: Mapping[str, int], tally: PredictionStats
    ) -> None:
        super().__init__()
        self._model, self._numbers, self._tally = model, numbers, tally
        enter = self._opened.enter_context
        self._lines = [enter(JsonLines(options.folder / LINES_FILE))]
        if options.jsonl is not None:
            self._lines.append(enter(JsonLines(sys.stdout if options.jsonl == STANDARD_OUTPUT else options.jsonl)))
        self._drawings = None if options.no_drawings else enter(Drawings(options.folder))
        self._results = None if options.results is None else enter(CocoResults(options.results))
        self._window = Window() if options.show else None
        if self._window is not None:
            self._opened.callback(self._window.close)

    def write(self, frame: Frame, people: PosePredictions) -> bool:
        """Draw, write and show one image.

        Returns:
            False if the user asked for the end in the window.

        Raises:
            BrokenPipeError: The program that reads standard output has ended.
            UserError: A file cannot be written.
        """
        watch, name, drawn = self._tally.watch, None, None
        if self._drawings is not None or self._window is not None:
            watch.start("drawing")
            drawn = draw_frame(frame, people, self._model.keypoints, self._model.settings.detection_threshold)
        watch.start("writing")
        if self._drawings is not None and drawn is not None:
            name = self._drawings.write(frame, drawn)
        image_id = self._numbers.get(frame.source.name, self._tally.num_frames + 1)
        if self._results is not None:
            self._results.write(people, image_id)
        self._tally.add(frame.source, len(people.scores), name)
        line = as_line(frame, people, image_id, name)
        for lines in self._lines:
            lines.write(line)
        if self._window is None or drawn is None:
            return True
        watch.start(None)  # people look as long as they like
        return self._window.show(drawn, wait=frame.number is None)
