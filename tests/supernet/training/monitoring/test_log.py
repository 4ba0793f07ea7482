"""The log of a run holds every step once, after any interruption."""

import json
import threading
import time
from pathlib import Path

import pytest
import torch

from supernet.errors import UserError
from supernet.pose.training.objective import LossTerms
from supernet.training.monitoring.curves import draw_curves
from supernet.training.monitoring.log import TrainingLog
from supernet.training.trainer import StepReport
from tests.helpers.training import SPACE


def report(step: int) -> StepReport:
    return StepReport(
        step=step,
        phase="only",
        resolution=48,
        archs=(SPACE.largest(),),
        roles=("largest",),
        image_ids=torch.tensor([1]),
        losses=[LossTerms(*(torch.tensor(float(step)) for _ in range(4)))],
        distillation=None,
        gradient_norm=torch.tensor(2.0),
        rate=0.1,
        data_seconds=0.5,
        seconds=1.0,
    )


def test_lines_of_steps_that_run_again_are_removed_and_so_is_a_line_cut_off(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0) as log:
        for step in range(6):
            log.write(report(step), {"loss_largest": float(step)})
        log.go_back(4)
        log.write(report(4), {"loss_largest": 44.0})
        rows = log.rows()
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[4]["loss_largest"] == 44.0
    assert list(rows[0])[-2:] == ["seconds", "data_share"]
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"step": 5, "pha')
    with TrainingLog(tmp_path, 6) as log:
        assert [row["step"] for row in log.rows()] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "line", [b"garbage", b"", b"5", b"[1]", b"{}", b'{"step": null, "phase": "a"}', b"\xff", b'{"step": 1, "phase": 2}']
)
def test_damaged_lines_are_removed_with_a_warning(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with TrainingLog(tmp_path, 0) as log:
        for step in range(4):
            log.write(report(step), {})
    path = tmp_path / "train.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:], b""]))
    with TrainingLog(tmp_path, 3) as log:
        (message,) = caplog.messages
        assert "train.jsonl: removed 1 damaged lines" in message
        assert [row["step"] for row in log.rows()] == [0, 1, 2]
        draw_curves(tmp_path / "curves.png", log.rows())


def test_a_full_disk_is_an_error_with_path_and_free_bytes(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0) as log:
        full = Path("/dev/full").open("w")  # noqa: SIM115 - the log closes it
        log._lines.close()
        log._lines = full
        with pytest.raises(
            UserError, match=r"cannot write .*train\.jsonl: No space left on device \(.* bytes are free"
        ):
            log.write(report(0), {})
        log._lines = (tmp_path / "train.jsonl").open("a")


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_in_the_thread_of_tensorboard_is_an_error_of_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hook, later = threading.excepthook, time.time() + 1e6

    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    def write_until_error() -> None:
        with TrainingLog(tmp_path, 0) as log:
            monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.flush", fail)
            monkeypatch.setattr(time, "time", lambda: later)  # the thread writes now and then
            for step in range(500):
                log.write(report(step), {})

    with pytest.raises(UserError, match=r"cannot write .*train\.jsonl: No space left on device"):
        write_until_error()
    with pytest.raises(UserError, match="No space left on device"):
        TrainingLog(tmp_path, 0)
    assert capsys.readouterr().err == ""
    assert threading.excepthook is hook


def test_lines_are_json_in_full_precision(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0) as log:
        log.write(report(3), {"mean_loss": 0.1 + 0.2})
    (line,) = (tmp_path / "train.jsonl").read_text().splitlines()
    assert json.loads(line)["mean_loss"] == 0.1 + 0.2
