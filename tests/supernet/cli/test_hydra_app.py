"""Invalid overrides are reported in one line, and run folders get the requested names."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from supernet import evaluate, train
from supernet.cli.hydra_app import compose_config, dataset_config, run_with_config
from supernet.cli.runs import create_run, discard_empty, find_run, point_latest
from supernet.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=3", "there is no option stepz, did you mean steps?"),
        ("+batchsize=3", "there is no option batchsize, did you mean batch_size?"),
        ("evaluation.flip_tset=true", "did you mean evaluation.flip_test?"),
        (
            "dataset=nowhere",
            "there is no dataset=nowhere; choose among coco",
        ),
        (
            "dataset=2017",
            "dataset must be one of ['coco', 'coco_people', 'crowdpose', 'custom', 'synthetic'], got 2017;",
        ),
        ("space=null", "space must be one of ['litepose', 'nano', 'nano_long', 'photos'], got null;"),
        (
            "dataset.root=/data",
            "no option dataset.root without dataset=coco, coco_people, crowdpose or custom;",
        ),
        ("constraint.macs=3", "there is no option constraint.macs; --help"),
        ("phases.share=2", "there is no option phases.share; phases is a list, whose entries are phases.0 and so on;"),
        ("phases.9.share=2", "cannot set phases.9.share=2: list index out of range;"),
        ("steps=${nothing}", "Interpolation key 'nothing' not found"),
        ("steps=???", "Missing mandatory value: steps"),
        ("phases=[{name: one}]", "phases must be one of ['elastic', 'progressive', 'sandwich']"),
        ("space.resolutions=[128", "no viable alternative at input '[128'"),
        ("objectives=[äp]", "in quotes inside those of the shell: \"objectives=['"),
    ],
)
def test_errors_of_hydra_become_one_line_and_exit_status_2(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", f"runs={tmp_path}", override])
    with pytest.raises(SystemExit) as stop:
        train.main()
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert len(shown.splitlines()) == 1
    assert message in shown
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [".", "..", "latest", ".hidden", "a/b", "../a"])
def test_names_that_are_not_plain_folder_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name must be a plain folder name"):
        create_run(tmp_path, "train", name)
    assert os.listdir(tmp_path) == []


def test_latest_points_to_the_newest_run_and_no_run_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / ".latest.tmp999999999").symlink_to("gone")  # of a run that was killed
    for name in ("first", "second"):
        folder = create_run(tmp_path, "train", name)
        point_latest(folder)
        assert (tmp_path / "train" / "latest").resolve() == folder.resolve()
    with pytest.raises(UserError, match="exists already"):
        create_run(tmp_path, "train", "first")
    assert os.readlink(tmp_path / "train" / "latest") == "second"
    assert sorted(os.listdir(tmp_path / "train")) == ["first", "latest", "second"]


def test_runs_that_start_in_the_same_second_get_different_folders(tmp_path: Path) -> None:
    folders = [create_run(tmp_path, "train") for _ in range(4)]
    assert len({folder.name for folder in folders}) == 4
    assert sorted(os.listdir(tmp_path / "train")) == sorted(folder.name for folder in folders)


def test_a_run_is_found_by_its_name_or_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("latest", "mine", "nowhere"):
        assert find_run("runs", "train", name) == Path("runs/train") / name
    for path in ("runs/train/mine", "../mine", str(tmp_path / "mine")):
        assert find_run("runs", "train", path) == Path(path)
    (tmp_path / "mine").mkdir()
    assert find_run("runs", "train", "mine") == Path("mine")


def test_a_sweep_writes_only_to_the_folder_of_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate", "--multirun", "weights=nowhere", "runs=mine", "split=val,test"])
    with pytest.raises(SystemExit):
        evaluate.main()
    assert "there is no trained supernet or exported model at nowhere" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["mine"]
    assert os.listdir(tmp_path / "mine") == ["multirun"]


def test_a_folder_is_discarded_only_while_it_is_empty(tmp_path: Path) -> None:
    empty, full = create_run(tmp_path, "train", "empty"), create_run(tmp_path, "train", "full")
    (full / "summary.json").write_text("{}")
    discard_empty(empty)
    discard_empty(full)
    assert os.listdir(tmp_path / "train") == ["full"]


def test_a_folder_named_latest_is_reported_and_kept(tmp_path: Path) -> None:
    (tmp_path / "train" / "latest").mkdir(parents=True)
    with pytest.raises(UserError, match=r"cannot point .*latest to"):
        point_latest(create_run(tmp_path, "train", "run"))
    assert sorted(os.listdir(tmp_path / "train")) == ["latest", "run"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_links_has_no_latest_and_says_so(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_links(monkeypatch, number)
    folder = create_run(tmp_path, "train", "run")
    point_latest(folder)
    (message,) = caplog.messages
    assert f"no symbolic links; name the run, {folder}," in message
    assert os.listdir(tmp_path / "train") == ["run"]


def test_a_link_that_is_refused_for_another_reason_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = create_run(tmp_path, "train", "run")
    refuse_links(monkeypatch, errno.EIO)
    with pytest.raises(UserError, match=r"cannot point .*latest to"):
        point_latest(folder)
    refuse_links(monkeypatch, errno.EPERM)
    (tmp_path / "train" / "latest").mkdir()  # commands would read it as the newest run
    with pytest.raises(UserError, match=r"cannot point .*latest to"):
        point_latest(folder)
    assert not caplog.messages


def refuse_links(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "symlink", refuse)


def test_an_option_of_another_choice_of_its_group_names_those_that_have_it() -> None:
    with pytest.raises(UserError, match=r"no option dataset\.width with dataset=coco, only with dataset=synthetic;"):
        compose_config("train", ["dataset=coco", "dataset.width=96"])


def test_a_group_without_a_default_takes_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "experiment=null", "steps=7"])
    jobs: list[dict[str, Any]] = []
    run_with_config("train", jobs.append)
    assert [job["steps"] for job in jobs] == [7]


@pytest.mark.parametrize("error", [ValueError("of the job"), KeyError("of the job")])
def test_an_error_in_the_job_itself_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def job(_: dict[str, Any]) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["train"])
    with pytest.raises(type(error), match="of the job"):
        run_with_config("train", job)


def test_a_data_set_is_composed_with_its_overrides() -> None:
    overrides = ["dataset.root=/data", "dataset.keypoints=crowdpose", "dataset.test=${dataset.val}"]
    dataset = dataset_config("coco", overrides)
    assert (dataset["kind"], dataset["root"], dataset["keypoints"]) == ("coco", "/data", "crowdpose")
    assert dataset["test"] == dataset["val"] == dataset_config("coco", [])["test"]


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("nowhere", "dataset.root=/", "dataset=nowhere"),
        ("coco", "dataset.rot=/", "there is no option dataset.rot, did you mean dataset.root?"),
        ("coco", "dataset.root=${nothing}", "Interpolation key 'nothing' not found"),
        ("coco", "steps=3", "'steps=3' is not an option of the data set; write dataset.KEY=VALUE"),
    ],
)
def test_a_wrong_data_set_is_reported_in_one_line(name: str, override: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        dataset_config(name, [override])
    assert "\n" not in str(caught.value)


def test_a_composed_configuration_is_that_of_the_command_line_as_plain_values() -> None:
    config = compose_config("train", ["steps=7", "phases=sandwich"])
    assert (config["steps"], [phase["name"] for phase in config["phases"]]) == (7, ["sandwich"])
    assert "hydra" not in config
    with pytest.raises(UserError, match="there is no option stepz, did you mean steps"):
        compose_config("train", ["stepz=7"])


@pytest.mark.parametrize(
    ("variables", "spins"),
    [
        ({}, "2000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
        ({"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "7"}, "7"),
    ],
)
def test_threads_spin_briefly_unless_the_environment_says_how_long(
    variables: dict[str, str], spins: str | None
) -> None:
    others = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    program = "import os, sys, supernet.cli.hydra_app; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    command = [sys.executable, "-c", program]
    ended = subprocess.run(
        command, cwd=ROOT, env=others | variables, capture_output=True, text=True, timeout=250, check=True
    )
    assert ended.stdout.split() == [str(spins), "False"]  # torch reads it when it is imported


def test_a_folder_conf_of_the_user_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "__init__.py").write_text("raise SystemExit('the user's code')")
    (tmp_path / "conf" / "evaluate.yaml").write_text("weights: theirs")
    done = subprocess.run(
        [sys.executable, "-m", "supernet.evaluate", "weights=mine"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.startswith("error: there is no trained supernet or exported model at mine;")


def test_with_option_p_of_python_files_of_the_user_are_not_imported(tmp_path: Path) -> None:
    for name in ("search.py", "conf.py", "supernet.py"):
        (tmp_path / name).write_text("raise SystemExit('the user's code')")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "search.evolve", "stepz=1"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.startswith("error: there is no option stepz")


@pytest.mark.parametrize(
    ("command", "words", "dataset"),
    [
        ("evaluate", ["dataset.root=/a b"], {"root": "/a b"}),
        ("evolve", ["dataset=null", "dataset.root=~/now"], {"root": "~/now"}),
        ("optuna_search", [], {}),
        ("train", ["resume=automatic", "dataset.root=/now"], {"kind": "synthetic", "root": "/now"}),
        ("train", ["resume=auto", "dataset=coco", "dataset.root=/now"], {"kind": "coco", "root": "/now"}),
    ],
)
def test_a_command_that_knows_its_images_takes_their_folder_alone(
    command: str, words: list[str], dataset: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [command, f"runs={tmp_path}", *words])
    seen: list[dict[str, Any]] = []
    run_with_config(command, seen.append)
    own = seen[0].get("dataset") or {}
    expected = {name: os.path.expanduser(value) for name, value in dataset.items()}
    assert own | expected == own
    assert command == "train" or own == expected
