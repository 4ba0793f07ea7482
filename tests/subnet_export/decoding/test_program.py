"""The text of ``pose.py`` for the files of an export."""

import ast
from pathlib import Path

import pytest

from subnet_export.decoding import pose
from subnet_export.decoding.program import program


def functions(text: str) -> set[str]:
    return {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


def unused_imports(text: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(text)))
    imported = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return imported - {node.id for node in nodes if isinstance(node, ast.Name)} - {"numpy", "cv2"}


def test_the_program_is_the_module_if_all_its_files_are_there() -> None:
    assert program(list(pose.RUNTIMES)) == Path(pose.__file__).read_text()


@pytest.mark.parametrize(
    ("names", "opened"),
    [
        (["model.onnx", "model.json"], ["model.onnx"]),
        (["model.mnn", "model.ncnn.param", "model.ncnn.bin"], ["model.ncnn.param", "model.mnn"]),
        (["model.xml", "weights.pt"], ["model.onnx"]),
        (["model_int8.tflite"], ["model_int8.tflite"]),
        (["model.tflite", "model.onnx"], ["model.onnx", "model.tflite"]),
        ([], ["model.onnx"]),
    ],
    ids=str,
)
def test_only_the_libraries_of_the_files_remain(names: list[str], opened: list[str]) -> None:
    text = program(names)
    module: dict[str, object] = {"__name__": "pose"}
    exec(compile(text, "pose.py", "exec"), module)  # noqa: S102 - our own program
    assert list(module["RUNTIMES"]) == opened  # type: ignore[call-overload]
    others = {function.__name__ for function in {*pose.RUNTIMES.values()} - {pose.RUNTIMES[name] for name in opened}}
    if opened == ["model.onnx"]:  # ONNX Runtime counts the cores itself
        others.add("num_cores")
    assert functions(text) == functions(Path(pose.__file__).read_text()) - others
    assert not [name for name in others if name in text]
    assert not unused_imports(text)
