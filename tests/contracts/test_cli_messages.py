"""Every command tells a mistake in a line, and keeps quiet on screens and pipes that are not what it hoped for."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from supernet.io import files
from tests.helpers.latency_tables import made_up_table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "argument", "told"),
    [
        ("supernet.train", "stepss=1", "there is no option stepss, did you mean steps?"),
        ("supernet.train", "+stepss=1", "there is no option stepss; did you mean steps?"),
        ("supernet.train", "+lrr=1", "there is no option lrr; choose among"),
        ("supernet.train", "steps=many", "steps is 'many'; it must be a whole number"),
        ("supernet.train", "phases=progresive", "Could not find 'phases/progresive' Available options in 'phases'"),
        ("supernet.train", "steps=1,2", "Ambiguous value for argument 'steps=1,2'"),
        ("supernet.train", "+_target_=os.system", "there is no option _target_"),
        ("supernet.train", "+space._target_=os.system", "_target_"),
        ("search.evolve", "populatoin=9", "there is no option populatoin, did you mean population?"),
        ("search.evolve", "+populatoin=9", "there is no option populatoin; did you mean population?"),
        ("search.optuna_search", "samplr=tpe", "there is no option samplr, did you mean sampler?"),
        ("supernet.evaluate", "+wieghts=x", "there is no option wieghts; did you mean weights?"),
        ("supernet.pose.check", "dataset.rot=x", "there is no option dataset.rot, did you mean dataset.root?"),
        ("subnet_export.__main__", "--archs", "there is no option --archs, did you mean --arch?"),
        ("subnet_export.finetune", "--stepz", "there is no option --stepz, did you mean --steps?"),
        ("subnet_export.predict", "--modle", "there is no option --modle, did you mean --model?"),
    ],
)
def test_a_mistake_is_one_line_with_what_was_meant(
    module: str,
    argument: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", argument])
    with pytest.raises(SystemExit) as stop:
        import_module(module).main()
    shown = capsys.readouterr().err
    assert stop.value.code == 2
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert told in shown
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


TWO_STEPS = ("phases=sandwich", "steps=2", "batch_size=2", "report_random=0", "num_calibration_images=2", "name=one")
COMMANDS = [
    ("supernet.train", "--help"),
    pytest.param(("search.lut", "show", "table.json"), marks=pytest.mark.slow),
    pytest.param(("supernet.doctor",), marks=pytest.mark.slow),
    pytest.param(("search.evolve", "--help"), marks=pytest.mark.slow),
    pytest.param(("subnet_export", "--help"), marks=pytest.mark.slow),
    pytest.param(("supernet.train", "--cfg", "job"), marks=pytest.mark.slow),
    pytest.param(("supernet.train", *TWO_STEPS), marks=pytest.mark.slow),
]


def started(
    command: tuple[str, ...], folder: Path, stdout: int, **environment: str
) -> subprocess.CompletedProcess[str]:
    files.write_json(folder / "table.json", made_up_table().to_dict())
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "PYTHONPATH": path, **environment}
    arguments = [sys.executable, "-m", *command]
    return subprocess.run(
        arguments,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_coloured_where_there_is_no_screen(command: tuple[str, ...], tmp_path: Path) -> None:
    done = started(command, tmp_path, subprocess.PIPE, NO_COLOR="1", COLUMNS="40")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 50
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_has_enough_ends_a_command_without_a_word(command: tuple[str, ...], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = started(command, tmp_path, writer)
    finally:
        os.close(writer)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
