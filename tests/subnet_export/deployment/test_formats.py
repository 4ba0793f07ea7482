"""Formats are chosen by name; a missing package is reported with the extra that installs it."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

from subnet_export.deployment.formats import (
    FORMATS,
    LITEPOSE,
    LOADABLE,
    PROJECT,
    RUNTIMES,
    SAFETENSORS,
    WEB,
    format_of,
    parse_formats,
    require,
)
from subnet_export.deployment.runtimes import LIBRARY_RUNTIMES
from subnet_export.deployment.writers import QUANTISED_WRITERS, WRITERS
from supernet.errors import UserError

PROJECT_FILE = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


def test_litepose_is_always_written_and_nothing_twice() -> None:
    assert [chosen.name for chosen in parse_formats("onnx, safetensors,onnx")] == ["litepose", "onnx", "safetensors"]
    assert [chosen.name for chosen in parse_formats("litepose")] == ["litepose"]
    assert [chosen.name for chosen in parse_formats(",".join(FORMATS))] == list(FORMATS)


@pytest.mark.parametrize(("text", "name"), [("onxx", "'onxx'"), ("onnx,", "''"), ("", "''")])
def test_an_unknown_format_is_refused(text: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not a format.*litepose, safetensors, onnx, openvino"):
        parse_formats(text)


def test_no_two_formats_share_a_file_and_files_identify_formats() -> None:
    files = [file for chosen in FORMATS.values() for file in chosen.files]
    assert len(files) == len(set(files))
    assert all(format_of(Path("folder") / chosen.files[0]) == chosen for chosen in FORMATS.values())
    assert format_of(Path("model.json")) is None


def test_every_extra_brings_the_packages_of_its_formats() -> None:
    assert PROJECT_FILE["name"] == PROJECT
    for chosen in FORMATS.values():
        if chosen.packages:
            installed = {line.partition(">=")[0] for line in PROJECT_FILE["optional-dependencies"][chosen.extra]}
            assert {*chosen.packages, *chosen.readers} <= installed


def test_every_format_has_a_writer_and_every_loadable_graph_a_runtime() -> None:
    assert sorted([*WRITERS, *QUANTISED_WRITERS]) == sorted(set(FORMATS) - {LITEPOSE.name})
    assert set(LIBRARY_RUNTIMES) == set(LOADABLE) - {LITEPOSE.name, SAFETENSORS.name}
    assert {chosen.name for chosen, _ in RUNTIMES.values()} == set(FORMATS) - {SAFETENSORS.name, WEB.name}


def test_a_missing_package_is_reported_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require(("json",), "onnx", "format onnx")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find_spec(name))
    with pytest.raises(UserError) as caught:
        require(FORMATS["onnx"].packages, FORMATS["onnx"].extra, "format onnx")
    for part in ("format onnx", "package onnxscript", "pip install 'litepose-supernet[onnx]'"):
        assert part in str(caught.value)
