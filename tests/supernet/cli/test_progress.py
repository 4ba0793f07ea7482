"""Progress is a bar that fits a terminal, and elsewhere a plain line now and then."""

import io
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from supernet.cli import console as module
from supernet.cli.console import CONSOLE, print_wide, progress_bar
from supernet.cli.progress import ProgressBars, ProgressLines, Speed, duration

PATH = "/data/größe [1]/2024/run 3/supernet.pt"


@given(
    st.integers(30, 200),
    st.text("abc 人\u0301[]:", max_size=60),
    st.text("abc 人/[1]0", max_size=120),
    st.integers(0, 12345),
    st.one_of(st.none(), st.integers(1, 12345)),
)
@example(80, "training", "expand_ratio: loss 0.0415, AP 0.512/0.401, rate 1.2e-03, 123 images/s", 5311, 5800)
@example(30, "final check on test images", "", 11, 11)
def test_a_bar_is_one_line_with_whole_counts(
    width: int, description: str, note: str, completed: int, total: int | None
) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    bars = ProgressBars(console=console)
    bars.add_task("another", total=3)
    task_id = bars.add_task(description, total=total, completed=completed, note=note)
    _, line = bars.get_renderables()
    shown = str(line)
    assert cell_len(shown) <= width
    assert f" {completed}/{'?' if total is None else total} 0:00:0" in shown
    short = width > 80 + cell_len(description) + cell_len(note)
    assert not short or shown.endswith(note)
    assert bars.tasks[task_id].completed == completed


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_without_a_terminal_there_is_a_line_now_and_then_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=20)
    with progress_bar(console) as progress:
        assert isinstance(progress, ProgressLines)
        task = progress.add_task("training", total=100, note="")
        for step in range(1, 101):
            now += 1.0
            progress.update(task, completed=step, note=f"width: loss {step / 100:.2f}", seconds_left=100.0 - step)
        progress.add_task("writing", total=None, note=PATH)
    texts = [re.sub(r"\d:\d\d:\d\d passed", "T passed", line) for line in lines(console)]
    assert texts == [
        *(
            f"training {step}/100: width: loss {step / 100:.2f}, T passed, {duration(100 - step)} left"
            for step in (30, 60, 90)
        ),
        "training 100/100: width: loss 1.00, T passed",
    ]


def test_a_path_in_a_note_is_neither_broken_nor_read_as_markup() -> None:
    console = Console(file=io.StringIO(), width=20)
    with progress_bar(console) as progress:
        progress.advance(progress.add_task("reading", total=3, note=PATH + "\x1b[2J\n"))
    (line,) = lines(console)
    assert PATH in line
    assert "\x1b" not in line


def test_processes_that_show_nothing_print_no_empty_line() -> None:
    console = Console(file=io.StringIO())
    with progress_bar(console, disable=True) as progress:
        progress.advance(progress.add_task("training", total=2, note=""))
    assert lines(console) == []


def test_speed_is_that_of_the_steps_since_the_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 2.0, 4.0, 5.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    speed = Speed(8, 20)
    assert [speed(40), speed(10), speed(20)] == ["80 images/s", "0 images/s", "80 images/s"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-:--:--"), (0, "0:00:00"), (59.6, "0:01:00"), (90061, "25:01:01")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_paths_are_printed_whole_and_in_one_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not CONSOLE.render_str(PATH).spans
    terminal = Console(file=io.StringIO(), force_terminal=True, width=30, markup=False, highlight=False)
    monkeypatch.setattr(module, "CONSOLE", terminal)
    table = Table("fault", box=None)
    table.add_column("example", overflow="fold")
    table.add_row("missing", PATH)
    print_wide(table)
    assert PATH in "\n".join(lines(terminal))
