"""The wheel is complete and small, and gives a working command in any folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from supernet.cli.commands import installed
from supernet.version import VERSION

ROOT = Path(__file__).parents[2]
MOST_MIB = 12
"""Limit on the size of the wheel; most of it are the shipped weights."""

pytestmark = pytest.mark.slow


def run(*words: str | Path, folder: Path) -> str:
    """What a program prints, where no other copy of this project is on Python's path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy because building writes beside the sources."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("conf", "search", "subnet_export", "supernet"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    quiet = ("--quiet", "--disable-pip-version-check")
    try:
        run(sys.executable, "-m", "pip", "wheel", *quiet, "--no-deps", "-w", target, source, folder=source)
    except AssertionError as error:
        if "setuptools" in str(error) and "No matching distribution" in str(error):
            pytest.skip("setuptools, which builds the wheel, cannot be downloaded")
        raise
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def script(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script in an empty environment, which finds other packages in that of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    python = folder / "bin" / "python"
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip()
    install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, *install, folder=folder)
    (Path(packages) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "litepose"


def test_it_holds_all_that_is_read_at_run_time_and_is_small(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("conf", "supernet", "search", "subnet_export"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT).as_posix() in names, path
    assert {name.split("/")[0] for name in names} == {
        *("conf", "search", "subnet_export", "supernet"),
        f"litepose_supernet-{VERSION}.dist-info",
    }
    assert wheel.stat().st_size < MOST_MIB * 2**20


def test_the_command_works_in_any_folder(script: Path, tmp_path: Path) -> None:
    """Also beside files of the user that have the names of our packages."""
    for name in ("search.py", "conf.py", "supernet.py"):
        (tmp_path / name).write_text("raise SystemExit('the file of the user')")
    assert run(script, "--version", folder=tmp_path) == f"litepose {VERSION}\n"
    listed = run(script, "--help", folder=tmp_path)
    assert all(f"  {name} " in listed for name in installed())
    assert "steps: 7\n" in run(script, "train", "--cfg", "job", "--steps", "7", folder=tmp_path)
    run(script, "search", "--cfg", "job", folder=tmp_path)
    found = run(script.parent / "python", "-P", "-c", "import subnet_export as s; print(s.__file__)", folder=tmp_path)
    assert Path(found).is_relative_to(script.parents[1])


def test_it_predicts_with_the_shipped_weights(script: Path, tmp_path: Path) -> None:
    drawing = "import cv2, numpy; cv2.imwrite('grey.png', numpy.full((120, 160, 3), 99, numpy.uint8))"
    run(script.parent / "python", "-c", drawing, folder=tmp_path)
    run(script, "predict", "grey.png", "model=pretrained:photos_small", "--output", "people", folder=tmp_path)
    assert (tmp_path / "people" / "people.jsonl").is_file()
