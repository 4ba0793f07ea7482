"""Commands report errors in one line, print plain text without a terminal, and end quietly on a closed pipe."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from supernet.checkpoints.supernet_file import SUPERNET_FILE
from supernet.io import files
from tests.helpers.latency_tables import fake_table
from tests.helpers.searches import save_random_supernet

ROOT = Path(__file__).parents[2]


MESSAGES = [
    # Options that do not exist.
    ("supernet.train", "stepss=1", "there is no option stepss, did you mean steps?; --help lists the options"),
    ("supernet.train", "+stepss=1", "there is no option stepss, did you mean steps?"),
    ("supernet.train", "+lrr=1", "there is no option lrr; choose among"),
    ("supernet.train", "+_target_=os.system", "there is no option _target_"),
    ("supernet.train", "+space._target_=os.system", "_target_"),
    ("supernet.evaluate", "+wieghts=x", "there is no option wieghts, did you mean weights?"),
    ("supernet.pose.check", "dataset.rot=x", "there is no option dataset.rot, did you mean dataset.root?"),
    ("supernet.doctor", "--all", "there is no option --all; python -m supernet.doctor --help lists the options"),
    ("search.evolve", "populatoin=9", "there is no option populatoin, did you mean population?"),
    ("search.evolve", "+populatoin=9", "there is no option populatoin, did you mean population?"),
    ("search.optuna_search", "samplr=tpe", "there is no option samplr, did you mean sampler?"),
    ("search.lut.__main__", "build --treads 1", "there is no option --treads, did you mean --threads?"),
    ("search.lut.__main__", "built", "argument COMMAND: invalid choice: 'built'"),
    ("subnet_export.__main__", "--archs", "there is no option --archs, did you mean --arch?"),
    ("subnet_export.finetune", "--stepz", "there is no option --stepz, did you mean --steps?"),
    ("subnet_export.predict", "--modle", "there is no option --modle, did you mean --model?"),
    ("subnet_export.benchmark", "--repeat=9", "there is no option --repeat=9, did you mean --repeats?"),
    ("subnet_export.serve", "--prot 1", "there is no option --prot, did you mean --port?"),
    # Options in a wrong form, and commands that do not exist.
    ("supernet.train", "steps 5", "steps has no value here; write steps=5; --help lists the options"),
    ("supernet.train", "--steps", "--steps needs a value; write steps=5800; --help lists the options"),
    ("supernet.train", "-steps 5", "-steps is not an option; write steps=5; --help lists the options"),
    ("supernet.train", "steps= 5", "steps= 5 is not an option; write steps=5; --help lists the options"),
    ("supernet.train", "5", "'5' is not an option; write key=value, such as steps=5800"),
    ("search.evolve", "macs=80M", "there is no option macs, did you mean constraint.macs?"),
    ("search.evolve", "--populatoin", "there is no option --populatoin, did you mean --population?"),
    ("subnet_export.predict", "--model", "--model needs a value; write --model FOLDER"),
    ("subnet_export.predict", "model runs/x", "model is not an option; write --model runs/x or model=runs/x"),
    ("subnet_export.__main__", "archs=x", "there is no option archs, did you mean arch?"),
    ("supernet.cli.entry.main", "trian", "there is no command trian, did you mean train?; litepose --help lists"),
    ("supernet.cli.entry.main", "steps=5", "steps=5 is not a command; write litepose COMMAND steps=5; litepose --help"),
    ("supernet.cli.entry.main", "--verison", "--verison is not a command, did you mean --version?; litepose --help"),
    ("supernet.cli.entry.main", "predict --modle", "did you mean --model?; litepose predict --help lists the options"),
    (
        "supernet.cli.entry.main",
        "evaluate weights=nowhere",
        "there is no trained supernet or exported model at nowhere",
    ),
    (
        "supernet.cli.entry.main",
        "search supernet=nowhere",
        "there is no trained supernet at nowhere; run litepose train first or give another path",
    ),
    # Wrong values.
    ("subnet_export.serve", "--port 70000", "argument --port: 70000 must be at most 65535"),
    ("supernet.train", "steps=many", "steps must be a whole number, got 'many'"),
    ("supernet.train", "steps=0", "steps must be at least 1, got 0"),
    ("supernet.train", "threads=0", "threads must be at least 1, got 0; null uses all cores"),
    ("supernet.train", "average_decay=1", "average_decay must be from 0 to below 1, got 1.0"),
    ("supernet.train", "+evaluation.max_people=0", "max_people must be from 1 to 1000, got 0"),
    ("supernet.train", "augmentation.flip_probability=2", "augmentation.flip_probability must be from 0 to 1, got 2.0"),
    ("supernet.train", "name=a/b", "name must be a plain folder name, not hidden and not 'latest', got 'a/b'"),
    (
        "supernet.train",
        "phases=progresive",
        "there is no phases=progresive, did you mean progressive?; choose among elastic, progressive, sandwich; --help",
    ),
    ("supernet.train", "steps=1,2", "Ambiguous value for argument 'steps=1,2'"),
    ("supernet.evaluate", "weights=x batch_size=0", "batch_size must be at least 1, got 0"),
    ("search.evolve", "mutation_rate=2", "mutation_rate must be from 0 to 1, got 2.0"),
    ("search.optuna_search", "lost_after=0", "lost_after must be from 1 to 1000000, got 0.0"),
    ("search.lut.__main__", "build --threads 0", "argument --threads: '0' must be a whole number of at least 1"),
    ("subnet_export.__main__", "--max-int8-loss 2", "argument --max-int8-loss: '2' must be a number from 0 to 1"),
    # Missing and damaged files.
    ("supernet.train", "resume=nowhere", "there is no checkpoint in runs/train/nowhere"),
    ("supernet.evaluate", "weights=damaged", "damaged/supernet.pt is damaged or not a supernet file of this project"),
    ("supernet.pose.check", "dataset=coco", "dataset.root is not set"),
    (
        "search.evolve",
        "supernet=nowhere",
        "there is no trained supernet at nowhere; run python -m supernet.train first",
    ),
    ("search.lut.__main__", "show table.json", "cannot read latency table table.json: No such file or directory"),
    ("search.lut.__main__", "show damaged/arch.json", "latency table damaged/arch.json is not valid JSON (Expecting"),
    ("subnet_export.finetune", "--model nowhere", "there is no exported model in nowhere"),
    ("subnet_export.predict", "--model nowhere a.png", "there is no exported model in nowhere"),
    (
        "subnet_export.import_litepose",
        "x damaged/arch.json --keypoints coco",
        "arch file damaged/arch.json is not valid",
    ),
    # Requests that cannot be met.
    ("search.evolve", "supernet=tiny constraint.macs=1", "constraint.macs"),
    ("supernet.pose.check", "dataset=synthetic", "a synthetic data set has no files to check"),
]
"""Module, command line and message of one error each: the place that pins the wording of messages."""


@pytest.fixture(scope="module")
def files_to_read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny supernet and with damaged files."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "supernet.pt").write_bytes(b"PK\x03\x04 cut off")
    (folder / "damaged" / "arch.json").write_text("{")
    (folder / "tiny").mkdir()
    save_random_supernet(folder / "tiny" / SUPERNET_FILE)
    return folder


@pytest.mark.parametrize(("module", "arguments", "message"), MESSAGES)
def test_an_error_is_one_line_with_the_cause_and_what_to_do(
    module: str,
    arguments: str,
    message: str,
    files_to_read: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(files_to_read.rglob("*"))
    monkeypatch.chdir(files_to_read)
    monkeypatch.setattr(sys, "argv", ["command", *arguments.split()])
    with pytest.raises(SystemExit) as stop:
        import_module(module).main()
    shown = capsys.readouterr().err
    assert stop.value.code == 2
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert message in shown
    assert [path for path in files_to_read.rglob("*") if path.is_file() and path not in before] == []


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


def run_command(
    command: tuple[str, ...], folder: Path, stdout: int, **environment: str
) -> subprocess.CompletedProcess[str]:
    files.write_json(folder / "table.json", fake_table().to_dict())
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
def test_output_is_plain_text_without_a_terminal(command: tuple[str, ...], tmp_path: Path) -> None:
    done = run_command(command, tmp_path, subprocess.PIPE, NO_COLOR="1", COLUMNS="40")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 50
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_output_ends_a_command_quietly(command: tuple[str, ...], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_command(command, tmp_path, writer)
    finally:
        os.close(writer)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
