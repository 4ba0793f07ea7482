"""Runs the sections of the report one after the other and writes the report after each; imports nothing slow."""

import importlib
import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supernet.io import files

if TYPE_CHECKING:
    from scripts.gpu_reporting.context import Context


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        place: Module and function that measures it, imported only when it is its turn.
        title: Its heading.
        seconds: What it needs on a GPU at least; it is left out if less time is left.
        most: Its share of the time; a long section stops there and says what it left out.
        apart: Whether it runs in a process of its own on a GPU, where a fault would cost all later sections the device.
    """

    place: str
    title: str
    seconds: float
    most: float
    apart: bool = False


SECTIONS = {
    "machine": Section("machine.machine", "Machine and versions", 0, 30),
    "throughput": Section("throughput.throughput", "Training with data on", 30, 90),
    "recorded": Section("recorded.recorded", "Training with CUDA graphs", 25, 90, apart=True),
    "memory": Section("memory.memory", "Memory, measured and predicted", 15, 60),
    "training": Section("training.training", "Short training", 40, 160),
    "resume": Section("training.resume", "Resumed training", 40, 150),
    "evaluation": Section("deployment.evaluation", "Evaluation", 15, 80),
    "export": Section("deployment.export", "Export and parity", 20, 110),
    "latency": Section("latency.latency", "Latency table", 15, 60),
    "tests": Section("suite.suite", "Tests that need a GPU", 15, 120),
    "steps": Section("steps.steps", "Passes and steps", 20, 130),
    "graphs": Section("graphs.graphs", "Passes with CUDA graphs", 20, 40, apart=True),
}
"""The most informative first."""


@dataclass
class Report:
    """The report, in ``folder`` as JSON and as a page.

    Attributes:
        folder: Where it is written.
        render: Returns the page.
        head: Entries before the sections.
        sections: By name: status, seconds and figures.
    """

    folder: Path
    render: Callable[[dict[str, Any]], str]
    head: dict[str, Any]
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)

    def path(self, ending: str) -> Path:
        """Return the file in JSON ("json") or the page ("md")."""
        return self.folder / f"report.{ending}"

    def save(self) -> None:
        """Write both files, each at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        value = {**self.head, "sections": self.sections}
        files.write_json(self.path("json"), value)
        files.write_text(self.path("md"), self.render(value))


def run_sections(context: "Context", report: Report, names: Sequence[str]) -> None:
    """Run the sections called ``names``; whatever happens in one of them, the others run and the report is written."""
    deadline = context.deadline
    for name in names:
        section, began = SECTIONS[name], time.perf_counter()
        left = deadline - began
        if left < (section.seconds if context.is_gpu else 0):
            report.sections[name] = {"status": "left out", "reason": f"{left:.0f} s left, it needs {section.seconds:g}"}
            report.save()
            continue
        figures: dict[str, Any] = {}

        def keep(partial: dict[str, Any], figures: dict[str, Any] = figures, name: str = name) -> None:
            figures |= partial
            report.sections[name] = {"status": "running", **figures}
            report.save()

        context.deadline, context.keep = min(deadline, began + section.most), keep
        keep({})
        print(f"{name} ...", flush=True)
        try:
            if section.apart and context.is_gpu and context.may_start_processes:
                status, found = _run_apart(context, name)
                figures |= found
            else:
                module, _, function = section.place.partition(".")
                figures |= getattr(importlib.import_module(f"scripts.gpu_reporting.{module}"), function)(context)
                status = "done"
        except Exception:  # noqa: BLE001 - a diagnostic tool: a failure is a finding, and must not cost the other sections
            status, figures["error"] = "failed", traceback.format_exc()
            print(figures["error"], flush=True)
        context.free_memory()
        seconds = round(time.perf_counter() - began, 1)
        report.sections[name] = {"status": status, "seconds": seconds, **figures}
        report.save()
        print(f"{name} {status} after {seconds} s", flush=True)
    context.deadline = deadline


def _run_apart(context: "Context", name: str) -> tuple[str, dict[str, Any]]:
    """Run a section in a process of its own, and return its status and figures, also if it had to be killed."""
    commands = importlib.import_module("scripts.gpu_reporting.commands")
    context.free_memory()
    folder, log, seconds = context.work / name, context.work / f"{name}.log", context.seconds_left()
    arguments = ["--only", name, "--alone", "--device", str(context.device), "--out", str(folder)]
    error = None
    try:
        minutes = f"{max(seconds, 6.0) / 60:.3f}"
        commands.python("scripts.gpu_report", [*arguments, "--minutes", minutes], log, seconds + 10)
    except commands.CommandFailed as failure:
        error = str(failure)
    written = folder / "report.json"
    if not written.exists():
        raise commands.CommandFailed(error or commands.tail(log))
    figures: dict[str, Any] = json.loads(written.read_text("utf-8"))["sections"][name]
    status = str(figures.pop("status"))
    if status == "running":  # killed, or died
        status, figures["error"] = "failed", error or commands.tail(log)
    return status, figures
