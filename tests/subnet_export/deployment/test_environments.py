"""An environment of its own sees the packages of this one, is made once, and is kept only if it is complete."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from subnet_export.deployment import environments
from subnet_export.deployment.environments import ENVIRONMENTS, Environment, interpreter, is_made
from supernet.errors import UserError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "litepose-supernet" / "environments"


@pytest.mark.slow
def test_an_environment_sees_the_packages_of_this_one_and_is_made_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Environment("empty", (), 20)
    python = interpreter(environment)
    assert is_made(environment)
    code = "import json, sys, numpy; print(json.dumps([sys.prefix, numpy.__file__]))"
    output = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    prefix, numpy_file = json.loads(output)
    assert Path(prefix).parent == cache
    import numpy

    assert os.path.samefile(numpy_file, numpy.__file__)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(environments, "_make", refuse)
    assert interpreter(environment) == python


@pytest.mark.slow
def test_without_the_package_index_nothing_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_NO_INDEX", "UV_OFFLINE", "UV_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
    with pytest.raises(UserError, match=r"environment for broken .*connection to the package index"):
        interpreter(Environment("broken", ("litepose-has-no-such-package==1.0",), 1))
    assert os.listdir(cache) == []


def test_other_versions_are_another_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def make(_: Environment, folder: Path) -> None:
        (folder / "bin").mkdir()
        (folder / "bin" / "python").touch()
        made.append(folder)

    monkeypatch.setattr(environments, "_make", make)
    monkeypatch.setattr(environments, "_interpreter", lambda folder: folder / "bin" / "python")
    interpreters = [interpreter(Environment("one", (f"package=={version}",), 1)) for version in (1, 2, 1)]
    assert interpreters[0] == interpreters[2] != interpreters[1]
    assert len(made) == 2


def test_every_requirement_has_one_version() -> None:
    for environment in ENVIRONMENTS.values():
        assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in environment.requirements)
