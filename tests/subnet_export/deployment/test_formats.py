"""Formats are chosen by name; a missing package is reported with the extra that installs it."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from subnet_export.deployment.environments import ENVIRONMENTS
from subnet_export.deployment.formats import (
    FORMATS,
    LITEPOSE,
    LOADABLE,
    RUNTIMES,
    SAFETENSORS,
    WEB,
    format_of,
    parse_formats,
    require,
)
from subnet_export.deployment.library_runtimes import LIBRARY_RUNTIMES
from subnet_export.deployment.writers import QUANTISED_WRITERS, WRITERS
from supernet import doctor
from supernet.errors import UserError
from supernet.version import PROJECT

ROOT = Path(__file__).parents[3]
PROJECT_FILE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_litepose_is_always_written_and_nothing_twice() -> None:
    assert [chosen.name for chosen in parse_formats("onnx, safetensors,onnx")] == ["litepose", "onnx", "safetensors"]
    assert [chosen.name for chosen in parse_formats("litepose")] == ["litepose"]
    assert [chosen.name for chosen in parse_formats(",".join(FORMATS))] == list(FORMATS)


@pytest.mark.parametrize(("text", "name"), [("onxx", "'onxx'"), ("onnx,", "''"), ("", "''")])
def test_an_unknown_format_is_refused(text: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not a format.*litepose, safetensors, onnx, onnx_fp16, openvino"):
        parse_formats(text)


def test_no_two_formats_share_a_file_and_files_identify_formats() -> None:
    files = [file for chosen in FORMATS.values() for file in chosen.files]
    assert len(files) == len(set(files))
    assert all(format_of(Path("folder") / chosen.files[0]) == chosen for chosen in FORMATS.values())
    assert len(FORMATS) == len({Path(chosen.files[0]).name for chosen in FORMATS.values()})
    assert format_of(Path("model.json")) is None


def test_every_extra_brings_the_packages_of_its_formats() -> None:
    assert PROJECT_FILE["name"] == PROJECT
    for chosen in FORMATS.values():
        if chosen.packages:
            installed = {
                line.partition(">=")[0].replace("-", "_")
                for line in PROJECT_FILE["optional-dependencies"][chosen.extra]
            }
            assert {*chosen.packages, *chosen.readers} <= installed


def test_every_format_has_a_writer_and_every_loadable_graph_a_runtime() -> None:
    assert sorted([*WRITERS, *QUANTISED_WRITERS]) == sorted(set(FORMATS) - {LITEPOSE.name})
    assert set(LIBRARY_RUNTIMES) == set(LOADABLE) - {LITEPOSE.name, SAFETENSORS.name}
    can_run = {name for name, chosen in FORMATS.items() if chosen.runs_here}
    assert {chosen.name for chosen, _ in RUNTIMES.values()} == can_run - {SAFETENSORS.name, WEB.name}
    assert {chosen.environment for chosen in FORMATS.values()} - {""} == set(ENVIRONMENTS)


def test_the_report_on_an_installation_names_the_packages_of_every_format() -> None:
    known = {package.module: package.extra for package in doctor.PACKAGES}
    for chosen in FORMATS.values():
        assert known.keys() >= {*chosen.packages, *chosen.readers}
        assert all(known[reader] == chosen.extra for reader in chosen.readers)


def test_the_page_of_formats_lists_every_one() -> None:
    text = (ROOT / "docs" / "formats.md").read_text()
    rows = re.findall(r"`([a-z_0-9]+)`", "\n".join(re.findall(r"^\| (`.*?) \|", text, re.M)))
    assert set(rows) >= set(FORMATS) - {LITEPOSE.name}


def test_the_page_of_formats_states_the_size_of_every_environment() -> None:
    text = (ROOT / "docs" / "formats.md").read_text()
    names = {"litert_int8": "`litert_int8`", "coreml": "Core ML"}
    for name, environment in ENVIRONMENTS.items():
        assert f"{environment.megabytes} MB for {names[name]}" in text


def test_a_missing_package_is_reported_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require(("json",), "onnx", "format onnx")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    with pytest.raises(UserError) as caught:
        require(FORMATS["onnx"].packages, FORMATS["onnx"].extra, "format onnx")
    for part in ("format onnx", "package onnxruntime", "pip install 'litepose-supernet[onnx]'"):
        assert part in str(caught.value)
