"""The doctor reports which packages are installed, missing or broken, and covers all that the project declares."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from supernet import doctor
from supernet.doctor import PACKAGES, Finding, Package
from supernet.version import PROJECT

ROOT = Path(__file__).parents[2]


def names(requirements: list[str]) -> set[str]:
    """Package names of requirements such as ``numpy>=2``, those of the project's own extras left out."""
    packages = {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in requirements}
    return packages - {PROJECT}


def test_every_declared_package_is_looked_at() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {package.name for package in PACKAGES if package.extra == ""} == names(project["dependencies"])
    optional = project["optional-dependencies"]
    extras = {extra: names(packages) for extra, packages in optional.items() if extra not in ("dev", "docs")}
    for package in PACKAGES:
        if package.extra:
            assert package.name in extras[package.extra], package
    assert set().union(*extras.values()) <= {package.name for package in PACKAGES}


def test_it_reports_and_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-B", "-m", "supernet.doctor"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^  torch +{re.escape(version('torch'))} ", done.stdout, re.MULTILINE)
    assert re.search(r"^processor .* \d+ cores", done.stdout, re.MULTILINE)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_missing_package_is_reported_with_its_remedy() -> None:
    missing = Package("no-such-package", "no_such_package", "nothing", "onnx")
    assert doctor.look_up(missing) == Finding(missing, None)
    (line,) = [line for line in doctor.report([doctor.look_up(missing)]) if "no-such-package" in line]
    assert "missing" in line
    assert "pip install 'litepose-supernet[onnx]'" in line


@pytest.mark.parametrize("fault", ["raise OSError('libtorch.so: no such file')", "import another_missing_package"])
def test_a_package_that_does_not_import_is_broken_not_missing(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text(fault)
    monkeypatch.syspath_prepend(tmp_path)
    finding = doctor.look_up(Package("broken-package", "broken_package", "nothing"))
    assert finding.version is None
    assert finding.fault is not None
    assert finding.fault.startswith("does not import: ")


def test_a_missing_needed_package_is_an_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", (Package("no-such-package", "no_such_package", "nothing"),))
    monkeypatch.setattr(sys, "argv", ["doctor"])
    with pytest.raises(SystemExit) as stop:
        doctor.main()
    assert stop.value.code == 1
