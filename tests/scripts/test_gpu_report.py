"""The report on a GPU: what it writes, that a failing section costs no other, and the whole of it on a CPU."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import gpu_report
from scripts.gpu_reporting import runner


def report_of(folder: Path, *arguments: str) -> dict[str, Any]:
    gpu_report.main(["--device", "cpu", "--out", str(folder), *arguments])
    value: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
    return value


def replace(monkeypatch: pytest.MonkeyPatch, name: str, function: Any) -> None:
    module, _, function_name = runner.SECTIONS[name].place.partition(".")
    monkeypatch.setattr(importlib.import_module(f"scripts.gpu_reporting.{module}"), function_name, function)


def test_one_section_fills_the_report_and_the_page(tmp_path: Path) -> None:
    sections = report_of(tmp_path, "--only", "machine")["sections"]
    assert list(sections) == ["machine"]
    assert sections["machine"]["status"] == "done"
    assert sections["machine"]["cores"] >= 1
    page = (tmp_path / "report.md").read_text("utf-8")
    assert "## Machine and versions" in page
    assert f"- torch: {sections['machine']['torch']}" in page


def test_a_failed_section_keeps_what_it_had_and_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(context: Any) -> dict[str, Any]:
        context.keep({"rows": 3})
        raise ZeroDivisionError("no kernel image")

    replace(monkeypatch, "throughput", fails)
    replace(monkeypatch, "steps", lambda _: {"rows": [{"a": 1}]})
    with pytest.raises(SystemExit) as ended:
        report_of(tmp_path, "--only", "steps,throughput")
    assert ended.value.code == 1
    sections = json.loads((tmp_path / "report.json").read_text("utf-8"))["sections"]
    assert {name: section["status"] for name, section in sections.items()} == {"throughput": "failed", "steps": "done"}
    assert sections["throughput"]["rows"] == 3
    assert "ZeroDivisionError: no kernel image" in sections["throughput"]["error"]
    assert "no kernel image" in (tmp_path / "report.md").read_text("utf-8")


def test_a_killed_report_holds_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(context: Any) -> dict[str, Any]:
        context.keep({"rows": 5})
        raise KeyboardInterrupt

    replace(monkeypatch, "throughput", lambda _: {"speed": 2})
    replace(monkeypatch, "steps", killed)
    with pytest.raises(KeyboardInterrupt):
        report_of(tmp_path, "--only", "throughput,steps")
    sections = json.loads((tmp_path / "report.json").read_text("utf-8"))["sections"]
    assert sections["throughput"]["speed"] == 2
    assert sections["steps"] == {"status": "running", "rows": 5}


def test_sections_that_the_time_does_not_allow_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.gpu_reporting.context.Context.is_gpu", True)
    replace(monkeypatch, "machine", lambda _: {})
    replace(monkeypatch, "export", lambda _: {"must_not": "run"})
    sections = report_of(tmp_path, "--only", "machine,export", "--minutes", "0.1")["sections"]
    assert sections["machine"]["status"] == "done"
    assert sections["export"]["status"] == "left out"


def test_an_unknown_section_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        report_of(tmp_path, "--only", "machine,trainig")
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "trainig" in error
    assert "training" in error
    assert not list(tmp_path.iterdir())


def test_help_does_not_import_torch() -> None:
    check = "import sys, scripts.gpu_report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=Path(__file__).parents[2], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_section_runs_on_a_cpu(tmp_path: Path) -> None:
    sections = report_of(tmp_path, "--minutes", "30")["sections"]
    assert {name: section["status"] for name, section in sections.items()} == dict.fromkeys(runner.SECTIONS, "done")
    assert sections["resume"]["equal_to_the_bit"] is True
    assert 0 < sections["resume"]["stopped_after"] < sections["resume"]["steps"]
    assert sections["throughput"]["spaces"]["nano"]["largest_on_host"]
    assert {row["workload"] for row in sections["steps"]["rows"]} >= {"sandwich", "largest", "smallest"}
    assert all(row["images_per_second"] > 0 for row in sections["steps"]["rows"])
    assert [row["largest"] for row in sections["export"]["difference_fp32"]] == [0.0, 0.0]
    assert len(sections["latency"]["tables"]["f32"]["block_p50_ms"]) >= 10
    assert sections["tests"]["skipped"] == sections["tests"]["tests"] > 0


def test_reports_are_joined(tmp_path: Path) -> None:
    for name, section in (("a", "machine"), ("b", "graphs")):
        report_of(tmp_path / name, "--only", section)
    gpu_report.main(["--merge", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "both")])
    both = json.loads((tmp_path / "both" / "report.json").read_text("utf-8"))
    assert list(both["sections"]) == ["machine", "graphs"]
    assert both["device"] == "cpu"
    assert "## Machine and versions" in (tmp_path / "both" / "report.md").read_text("utf-8")


def test_a_section_apart_reports_its_failure_and_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own: here it dies in the middle, as after a fault of the device."""
    monkeypatch.setattr("scripts.gpu_reporting.context.Context.is_gpu", True)

    def dies(module: str, arguments: list[str], log: Path, limit: float) -> None:
        folder = Path(arguments[arguments.index("--out") + 1])
        folder.mkdir()
        section = {"status": "running", "rows": [{"a": 1}]}
        (folder / "report.json").write_text(json.dumps({"sections": {"graphs": section}}))
        log.write_text("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("scripts.gpu_reporting.commands.python", dies)
    replace(monkeypatch, "machine", lambda _: {})
    with pytest.raises(SystemExit):
        report_of(tmp_path, "--only", "machine,graphs")
    sections = json.loads((tmp_path / "report.json").read_text("utf-8"))["sections"]
    assert sections["graphs"]["status"] == "failed"
    assert sections["graphs"]["rows"] == [{"a": 1}]
    assert "illegal memory access" in sections["graphs"]["error"]
    assert sections["machine"]["status"] == "done"
