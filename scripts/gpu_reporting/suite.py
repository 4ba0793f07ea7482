"""Section: the tests that need a GPU."""

import importlib.util
import xml.etree.ElementTree as ElementTree
from typing import Any

from scripts.gpu_reporting.commands import ROOT, CommandFailed, python, tail
from scripts.gpu_reporting.context import Context

MARK = "pytest.mark.gpu"


def suite(context: Context) -> dict[str, Any]:
    """Run the tests marked ``gpu`` and count their results; without a GPU they are all skipped.

    Raises:
        CommandFailed: pytest itself failed, or a test did.
    """
    if importlib.util.find_spec("pytest") is None:
        return {"left_out": "pytest is not installed"}
    test_files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text("utf-8")]
    results, log = context.work / "tests.xml", context.work / "tests.log"
    arguments = ["-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={results}", "--tb=short"]
    arguments += [str(path.relative_to(ROOT)) for path in test_files if "gpu_report" not in path.name]
    limit = max(context.effort.test_seconds, context.seconds_left())
    finished = python("pytest", arguments, log, limit)
    if not results.exists():
        raise CommandFailed(f"pytest exited with {finished.status} without results\n{tail(log)}")
    figures = counts(results.read_text("utf-8")) | {"exit_status": finished.status}
    context.keep(figures)
    if finished.status:
        raise CommandFailed(f"tests failed\n{tail(log)}")
    return figures


def counts(junit_xml: str) -> dict[str, Any]:
    """Return the number of tests, of failures, errors and skipped tests, and the names of the failed ones."""
    cases = list(ElementTree.fromstring(junit_xml).iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return {
        "tests": len(cases),
        "passed": sum(len(list(case)) == 0 for case in cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
        "failed": failed,
    }
