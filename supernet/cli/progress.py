"""Shows how far work is: bars on a terminal; elsewhere, as in a log file or under SLURM, a plain line now and then."""

import time
from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.progress import Progress, Task, TaskID
from rich.text import Text

from supernet.errors import printable

SECONDS_BETWEEN_LINES = 30.0
"""Time between two lines about the same work, where there is no terminal."""
_LONGEST_BAR, _SHORTEST_BAR = 40, 4


class ProgressBars(Progress):
    """A line per task that fits the terminal: the bar shrinks first, then the note is cut; counts and times never are.

    Tasks may have the fields ``note``, a short text, and ``seconds_left``, an estimate better than that of the speed.
    """

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the line of each visible task."""
        tasks = [task for task in self.tasks if task.visible]
        width = max((cell_len(task.description) for task in tasks), default=0)
        for task in tasks:
            yield self._line(task, width)

    def stop(self) -> None:
        """Leave the lines as they are; if nothing is shown, no empty line either."""
        if not self.disable:
            super().stop()

    def _line(self, task: Task, description_width: int) -> Text:
        times = f"{duration(task.elapsed)} {duration(seconds_left(task))}"
        end, note = f"{counts(task)} {times}", _note(task)
        description_width = max(0, min(description_width, self.console.width - len(end) - 2))
        room = self.console.width - 1 - description_width - len(end) - 2
        bar = min(_LONGEST_BAR, max(_SHORTEST_BAR, room - (cell_len(note) + 1 if note else 0)))
        bar = bar if bar <= room else 0  # of a very narrow terminal
        note_room = room - bar - 1
        if cell_len(note) > note_room:
            note = set_cell_size(note, note_room - 1).rstrip() + "…" if note_room > 1 else ""
        done = round(bar * min(1.0, task.completed / task.total)) if task.total else 0
        sign = "-" if self.console.options.ascii_only else "━"
        rest = sign if self.console.color_system else " "
        return Text.assemble(
            set_cell_size(task.description, description_width),
            (" " + sign * done if bar else "", "bar.finished" if task.finished else "bar.complete"),
            (rest * (bar - done), "bar.back"),
            (f" {counts(task)}", "progress.download"),
            (f" {times}", "progress.elapsed"),
            f" {note}" if note else "",
            no_wrap=True,
            overflow="crop",
        )


class ProgressLines(Progress):
    """A plain line about each task at most every ``SECONDS_BETWEEN_LINES``, and one at its end; no bars."""

    def __init__(self, console: Console) -> None:
        super().__init__(console=console)
        self._shown_at: dict[TaskID, float] = {}
        self._shown: dict[TaskID, str] = {}

    def start(self) -> None:
        """Show nothing yet."""

    def stop(self) -> None:
        """Show the last line of each task."""
        for task in self.tasks:
            self._show(task)

    def add_task(self, description: str, *arguments: Any, **fields: Any) -> TaskID:
        """Add a task, after the last lines of those before it."""
        for task in self.tasks:
            self._show(task)
        task_id = super().add_task(description, *arguments, **fields)
        self._shown_at[task_id] = time.monotonic()
        return task_id

    def update(self, task_id: TaskID, *arguments: Any, **fields: Any) -> None:
        """Update a task, and show it if the time has come."""
        super().update(task_id, *arguments, **fields)
        self._show_if_due(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Advance a task, and show it if the time has come."""
        super().advance(task_id, advance)
        self._show_if_due(task_id)

    def _show_if_due(self, task_id: TaskID) -> None:
        if time.monotonic() - self._shown_at[task_id] >= SECONDS_BETWEEN_LINES:
            self._show(self._tasks[task_id])

    def _show(self, task: Task) -> None:
        if task.completed and self._shown.get(task.id) != (state := f"{task.completed} {_note(task)}"):
            self._shown[task.id], self._shown_at[task.id] = state, time.monotonic()
            self.console.print(plain_line(task), highlight=False, soft_wrap=True)


class Speed:
    """Measures images per second between calls.

    Args:
        batch_size: Images per step.
        step: Number of steps that are done.
    """

    def __init__(self, batch_size: int, step: int) -> None:
        self._batch_size, self._step, self._time = batch_size, step, time.perf_counter()

    def __call__(self, step: int) -> str:
        """Return the speed since the last call; now so many steps are done, fewer than before after a rollback."""
        seconds, num_steps = time.perf_counter() - self._time, max(0, step - self._step)
        self._step, self._time = step, self._time + seconds
        return f"{num_steps * self._batch_size / max(seconds, 1e-9):.0f} images/s"


def plain_line(task: Task) -> str:
    """Return a task as a line of text."""
    left = seconds_left(task)
    times = f"{duration(task.elapsed)} passed" + (f", {duration(left)} left" if left and not task.finished else "")
    return f"{task.description} {counts(task)}: " + ", ".join(filter(None, [_note(task), times]))


def counts(task: Task) -> str:
    """Return how much of a task is done, such as 12/300."""
    return f"{int(task.completed)}/{int(task.total) if task.total is not None else '?'}"


def seconds_left(task: Task) -> float | None:
    """Return the time that the rest of a task takes: as its field says, or at the speed so far."""
    if task.finished:
        return 0.0
    given: float | None = task.fields.get("seconds_left")
    return task.time_remaining if given is None else given


def duration(seconds: float | None) -> str:
    """Return a time as hours, minutes and seconds."""
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _note(task: Task) -> str:
    return printable(str(task.fields.get("note") or ""))
