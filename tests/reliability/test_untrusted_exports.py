"""Exported models made to do harm: they refer to no other files, and what is no network is refused."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from subnet_export.deployment.runtimes import names_other_files
from subnet_export.model import load_model
from supernet.errors import UserError
from tests.reliability.file_mutations import DEEP
from tests.reliability.fuzz_targets import TARGETS
from tests.reliability.malicious_files import described


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported model."""
    folder = tmp_path_factory.mktemp("export")
    TARGETS["model"].valid(folder)
    return folder / "model"


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


def record(**names: str) -> dict[str, Any]:
    return {"files": names, "takes": "uint8", "error": 0.0, "AP": 0.1, "AP_network": 0.1, "num_images": 1}


@pytest.mark.parametrize(
    ("format_name", "file"),
    [("onnx", "../../secret"), ("onnx", "/etc/passwd"), ("onnx", "other.onnx"), ("mine", "model.onnx")],
)
def test_a_model_refers_to_no_files_but_its_own(format_name: str, file: str, model: Path) -> None:
    described(model, lambda value: value["formats"].update({format_name: record(**{file: "0" * 64})}))
    with pytest.raises(UserError, match=rf"model\.json: formats\.{format_name} has the files"):
        load_model(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value["arch"].update(img_size=65536), "resolution must be .* from 1 to 4096, got 65536"),
        (lambda value: value["arch"].update(input_channel=65528), "does not fit the network"),
        (lambda value: value["inference"].update(max_people=10**9), "max_people must .*1000, got 1000000000"),
        (lambda value: value["inference"].update(nms_kernel=10**9 + 1), "nms_kernel must .*got 1000000001"),
        (lambda value: value["inference"].update(size_divisor=16 * 10**9), "size_divisor must .*got 16000000000"),
        (lambda value: value["inference"].update(scales=[1, 0.001]), "scale"),
        (
            lambda value: value["inference"].update(tag_threshold=float("nan")),
            "tag_threshold must be finite, got nan",
        ),
        (lambda value: value["keypoints"].update(set="x", names=[str(i) for i in range(2000)]), "x"),
        (lambda value: value["costs"].update(macs="many"), "costs.macs must be .*got .many"),
        (
            lambda value: value["measurement"]["metrics"].update(AP="high"),
            "metrics.AP must be .*, got 'high'",
        ),
        (lambda value: value.update(extra=DEEP), "nested more than 100 deep"),
    ],
)
def test_descriptions_without_measure_are_refused(
    change: Callable[[dict[str, Any]], object], message: str, model: Path
) -> None:
    described(model, change)
    with pytest.raises(UserError, match=message):
        load_model(model)


def exported_as(model: Path, name: str, **contents: bytes) -> None:
    """Add files of a format with their right checksums."""
    for file, content in contents.items():
        (model / file).write_bytes(content)
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    described(model, lambda value: value["formats"].update({name: record(**sums)}))


def onnx_with_outside_weights() -> bytes:
    onnx = pytest.importorskip("onnx")
    weights = onnx.TensorProto(name="w", dims=[4], data_type=1, data_location=1)
    weights.external_data.add(key="location", value="../secret")
    value = onnx.helper.make_tensor_value_info("images", 1, [4])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["images", "w"], ["low"])], "g", [value], [value], [weights]
    )
    return bytes(onnx.helper.make_model(graph).SerializeToString())


def test_a_keypoint_may_be_called_location_but_weights_have_none() -> None:
    outside = onnx_with_outside_weights()
    assert names_other_files(outside)
    assert names_other_files(outside.replace(b"\x08location", b"\x88\x80\x00location"))  # the same length, padded
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(onnx_of_one_output())
    names = json.dumps({"names": ["location", "gaze_location", "\b location", "\x00location"]})
    onnx.helper.set_model_props(model, {"litepose": names})
    assert not names_other_files(model.SerializeToString())


def onnx_of_one_output() -> bytes:
    onnx = pytest.importorskip("onnx")
    value, out = (onnx.helper.make_tensor_value_info(name, 1, ["a", "b", "c", "d"]) for name in ("images", "low"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["images"], ["low"])], "g", [value], [out])
    opset = onnx.helper.make_opsetid("", 17)
    return bytes(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (onnx_with_outside_weights, "refers to other files"),
        (onnx_of_one_output, "does not give the maps low and high"),
        (lambda: b"no graph", "cannot be run"),
        (lambda: b"", "cannot be run"),
    ],
)
def test_graphs_that_are_no_networks_are_refused(make: Callable[[], bytes], message: str, model: Path) -> None:
    pytest.importorskip("onnxruntime")
    exported_as(model, "onnx", **{"model.onnx": make()})
    with pytest.raises(UserError, match=rf"model\.onnx {message}"):
        load_model(model, format="onnx")


@pytest.mark.parametrize("content", [b"", struct.pack("<Q", 2**60) + b"{}", b"\x02" + bytes(7) + b"{}"])
def test_safetensors_that_are_none_are_refused(content: bytes, model: Path) -> None:
    pytest.importorskip("safetensors")
    exported_as(model, "safetensors", **{"weights.safetensors": content})
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        load_model(model, format="safetensors")


def test_openvino_files_that_are_none_are_refused(model: Path) -> None:
    pytest.importorskip("openvino")
    exported_as(model, "openvino", **{"model.xml": b"<net", "model.bin": b""})
    with pytest.raises(UserError, match=r"model\.xml cannot be run"):
        load_model(model, format="openvino")
