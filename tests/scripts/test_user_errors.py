"""Real mistakes in options and files end scripts as they end commands: one line on standard error, exit status 2."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import gpu_report
from scripts.benchmarks import search
from supernet.errors import UserError

ROOT = Path(__file__).parents[2]
NOWHERE = "/no/such/place"
BAD_INPUTS = {
    "scripts.benchmarks.candidate": (["--drawn-supernet", NOWHERE], NOWHERE),
    "scripts.benchmarks.heatmap_quantization": (["--keypoints", "cocoo"], "cocoo"),
    "scripts.benchmarks.matchings": (["--num-images", "1", "--repeats", "1", "--annotations", NOWHERE], NOWHERE),
    "scripts.benchmarks.pose": (["--device", "gpuu"], "gpuu"),
    "scripts.benchmarks.search": (
        ["--workloads", "drawn", "--drawn-supernet", NOWHERE, "--in-process", "drawn"],
        NOWHERE,
    ),
    "scripts.benchmarks.train": (["--device", "gpuu"], "gpuu"),
    "scripts.gpu_report": (["--device", "gpuu"], "gpuu"),
    "scripts.studies.calibration": (["--photos", NOWHERE], NOWHERE),
    "scripts.studies.growth": (["report", "--search", NOWHERE], NOWHERE),
    "scripts.studies.predictor": (["--supernet", NOWHERE], NOWHERE),
    "scripts.studies.search_engines": (["--table", NOWHERE, "--out", "out"], NOWHERE),
    "scripts.studies.search_scaling": (["simulate", "--times", NOWHERE, "--out", "out.json"], NOWHERE),
    "scripts.studies.weight_sharing": (["--num-archs", "2", "--out", "out"], "num_archs"),
}
"""By script, options with a mistake, and the word of it that the message must have."""


@pytest.mark.parametrize("script", BAD_INPUTS)
def test_a_mistake_ends_a_script_in_one_line(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    options, wrong = BAD_INPUTS[script]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *options])
    monkeypatch.delitem(sys.modules, script, raising=False)
    for library in ("torch.set_num_threads", "cv2.setNumThreads"):  # other tests keep theirs
        monkeypatch.setattr(library, lambda _: None)
    monkeypatch.setattr("supernet.compute.cpu_tuning.prefer_throughput", lambda **_: None)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(script, run_name="__main__")
    assert ended.value.code == 2
    out, error = capfd.readouterr()
    assert not out
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert wrong in error
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_reports_to_join_must_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu_report.main(["--merge", str(tmp_path / "absent"), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert str(tmp_path / "absent") in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_benchmark_compares_with_a_commit_or_a_folder() -> None:
    with pytest.raises(UserError, match="no-such-commit"), search.checked_out("no-such-commit"):
        pass


def test_a_process_that_a_benchmark_starts_has_the_last_word() -> None:
    command = [sys.executable, "-m", "scripts.benchmarks.train", "--space", "nanoo", "--workloads", "smallest"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "nanoo" in done.stderr
    assert "Traceback" not in done.stderr
