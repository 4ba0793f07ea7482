"""A run folder belongs to one process and one run, and a checkpoint that does not fit is refused by name."""

import fcntl
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from supernet.checkpoints import container
from supernet.errors import UserError
from supernet.training import run_folder
from tests.helpers.locks import held_by_another_process

CONFIG: dict[str, Any] = {"steps": 10, "space": {"stem_widths": [8, 16], "name": "a"}, "seed": 0}
ENVIRONMENT = {"code": "0.1.0", "torch": "2.13.0", "threads": 1, "space_digest": "abc"}


def started(folder: Path, config: dict[str, Any], step: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    run_folder.write_config(folder, config)
    run_folder.save_checkpoint(folder, {"config": config, "step": step})
    return folder


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    with (
        held_by_another_process(run_folder.locked(tmp_path)) as child,
        pytest.raises(UserError, match=f"is in use by process {child} on .*; wait"),
        run_folder.locked(tmp_path),
    ):
        pass
    assert f"process {child} " in (tmp_path / ".lock").read_text()  # what a killed process leaves
    with run_folder.locked(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / ".lock").read_text()


def test_a_folder_that_cannot_be_locked_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", fail)
    with run_folder.locked(tmp_path):
        (message,) = caplog.messages
    assert f"{tmp_path} cannot be locked" in message


@pytest.mark.parametrize(
    ("number", "reason"), [(13, "Permission denied"), (28, "No space left"), (122, "quota exceeded")]
)
def test_a_folder_that_cannot_be_written_is_refused_at_the_start(
    number: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UserError, match=rf"cannot write .*{reason}.* bytes are free"), run_folder.locked(tmp_path):
        raise AssertionError("not refused")
    monkeypatch.undo()
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(UserError, match=rf"cannot write .*{reason}"), run_folder.locked(tmp_path):
        raise AssertionError("not refused")


def test_a_read_only_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match="Permission denied"), run_folder.locked(tmp_path):
        pass


def test_half_written_files_of_killed_processes_are_removed_at_the_start(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.tmp999999999.pt").write_bytes(b"half")
    with run_folder.locked(tmp_path):
        assert os.listdir(tmp_path) == [".lock"]


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in range(4):
        started(tmp_path, CONFIG, step)
    assert run_folder.load_checkpoint(tmp_path)["step"] == 3
    assert container.load(container.previous_of(tmp_path / "checkpoint.pt"), "training")["step"] == 2


def test_between_the_two_renames_the_older_checkpoint_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    started(tmp_path, CONFIG, 1)
    started(tmp_path, CONFIG, 2)
    (tmp_path / "checkpoint.pt").unlink()
    assert run_folder.has_checkpoint(tmp_path)
    assert run_folder.load_checkpoint(tmp_path)["step"] == 1
    (message,) = [*caplog.messages, *(str(warning.message) for warning in recwarn)]
    assert "checkpoint.pt" in message
    assert "previous" in message


def test_a_full_disk_names_the_checkpoint_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UserError, match=r"free space or choose another folder$"):
        run_folder.save_checkpoint(tmp_path, {"config": CONFIG, "step": 1})
    monkeypatch.undo()
    started(tmp_path, CONFIG, 1)
    monkeypatch.setattr(Path, "write_bytes", fail)
    message = r"cannot write .*checkpoint\.pt: No space.* bytes are free.*checkpoint is kept, continue with resume="
    with pytest.raises(UserError, match=message):
        run_folder.save_checkpoint(tmp_path, {"config": CONFIG, "step": 2})
    monkeypatch.undo()
    assert run_folder.load_checkpoint(tmp_path)["step"] == 1


def test_a_checkpoint_of_another_run_is_refused_with_its_first_five_differences(tmp_path: Path) -> None:
    other = {"steps": 20, "space": {"stem_widths": [8, 24], "name": "b", "more": 1}, "seed": 1, "batch": 2, "rate": 0.1}
    first, second = started(tmp_path / "first", CONFIG), started(tmp_path / "second", other)
    (second / "checkpoint.pt").replace(first / "checkpoint.pt")
    with pytest.raises(UserError, match=r"checkpoint\.pt is of another run than .*config\.json: ") as caught:
        run_folder.load_checkpoint(first)
    message = "batch 2 instead of None, rate 0.1 instead of None, seed 1 instead of 0, space.more 1 instead of None, "
    assert message + "space.name 'b' instead of 'a' and 2 more; " in str(caught.value)


def test_a_checkpoint_without_a_configuration_is_refused(tmp_path: Path) -> None:
    started(tmp_path, CONFIG)
    container.save(tmp_path / "checkpoint.pt", "training", {"step": 1})
    with pytest.raises(UserError, match=r"checkpoint\.pt is .*config is missing"):
        run_folder.load_checkpoint(tmp_path)


def test_differences_name_the_place_with_new_and_old_value() -> None:
    before, after = {"a": [1, (2.5, {"b": 3})], "c": None}, {"a": [1, [2.5, {"b": 4}]], "c": None}
    assert run_folder.differences(before, after) == ["a[1][1].b 4 instead of 3"]
    assert run_folder.differences({"a": [1]}, {"a": [1, 2]}) == ["a [1, 2] instead of [1]"]


def test_another_environment_is_a_warning_and_another_space_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_folder.check_environment(ENVIRONMENT, dict(ENVIRONMENT), tmp_path)
    assert not caplog.messages
    run_folder.check_environment(ENVIRONMENT, ENVIRONMENT | {"threads": 2, "torch": "2.14.0"}, tmp_path)
    (message,) = caplog.messages
    assert f"{tmp_path} is resumed with threads 2 instead of 1, torch '2.14.0' instead of '2.13.0';" in message
    everything = ENVIRONMENT | {
        "python": "3.11",
        "numpy": "2",
        "opencv": "5",
        "processor": "a",
        "device": "cpu",
        "processes": 1,
    }
    for name, value in everything.items():  # each alone
        if name != "space_digest":
            other: Any = value + 1 if isinstance(value, int) else f"{value}x"
            caplog.clear()
            run_folder.check_environment(everything, everything | {name: other}, tmp_path)
            assert f"is resumed with {name} {other!r} instead of {value!r};" in caplog.messages[0]
    with pytest.raises(UserError, match="space_digest 'xyz' instead of 'abc'"):
        run_folder.check_environment(ENVIRONMENT, ENVIRONMENT | {"space_digest": "xyz"}, tmp_path)


def test_a_checkpoint_with_option_names_of_an_earlier_release_is_read_with_the_current_names(tmp_path: Path) -> None:
    old = {**CONFIG, "picture_memory_mib": 7, "dataset": {"kind": "coco", "on_bad_picture": "fail"}}
    started(tmp_path, old)
    config = run_folder.load_checkpoint(tmp_path)["config"]
    assert config == {**CONFIG, "image_memory_mib": 7, "dataset": {"kind": "coco", "on_bad_image": "fail"}}
    # A resumed run writes the current names, while config.json keeps those it was started with.
    run_folder.save_checkpoint(tmp_path, {"config": config, "step": 2})
    assert run_folder.load_checkpoint(tmp_path)["step"] == 2


def test_the_option_that_resumes_is_one_word_of_a_shell() -> None:
    folder = Path("my runs/train/one")
    assert shlex.split(run_folder.resume_option(folder)) == [f"resume={folder}"]
