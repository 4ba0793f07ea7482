"""Formats are chosen by name, and packages that are not installed are told by the extra that brings them."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

from subnet_export.deployment.formats import FORMATS, PROJECT, format_of, parse_formats, require
from supernet.errors import UserError

PROJECT_FILE = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


def test_litepose_is_always_written_and_nothing_twice() -> None:
    assert [each.name for each in parse_formats("onnx, safetensors,onnx")] == ["litepose", "onnx", "safetensors"]
    assert [each.name for each in parse_formats("litepose")] == ["litepose"]
    assert [each.name for each in parse_formats(",".join(FORMATS))] == list(FORMATS)


@pytest.mark.parametrize("text", ["onxx", "onnx,", ""])
def test_an_unknown_format_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no format; choose among litepose, safetensors, onnx, openvino"):
        parse_formats(text)


def test_no_two_formats_share_a_file_and_files_tell_formats() -> None:
    files = [file for each in FORMATS.values() for file in each.files]
    assert len(files) == len(set(files))
    assert all(format_of(Path("folder") / each.files[0]) == each for each in FORMATS.values())
    assert format_of(Path("model.json")) is None


def test_every_extra_brings_the_packages_of_its_formats() -> None:
    assert PROJECT_FILE["name"] == PROJECT
    for each in FORMATS.values():
        if each.packages:
            brought = {line.partition(">=")[0] for line in PROJECT_FILE["optional-dependencies"][each.extra]}
            assert {*each.packages, *each.readers} <= brought


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require(("json",), "onnx", "format onnx")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(UserError) as caught:
        require(FORMATS["onnx"].packages, FORMATS["onnx"].extra, "format onnx")
    assert str(caught.value) == (
        "format onnx needs the package onnxscript, which is not installed; run pip install 'litepose-supernet[onnx]'"
    )
