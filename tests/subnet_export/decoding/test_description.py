"""Everything that a decoder must know is in model.json and in the metadata of the ONNX file."""

import json
from pathlib import Path
from typing import Any

import pytest

from subnet_export.exported_model import ExportedModel
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD
from supernet.pose.keypoints import CROWDPOSE
from supernet.version import VERSION
from tests.helpers.export_formats import format_writer

Exported = tuple[ExportedModel, Path]


def metadata_of(folder: Path) -> dict[str, Any]:
    import onnx

    properties = {item.key: item.value for item in onnx.load(folder / "model.onnx").metadata_props}
    value: dict[str, Any] = json.loads(properties["litepose"])
    return value


def test_model_json_describes_the_decoding(exported: Exported) -> None:
    model, folder = exported
    decoder = json.loads((folder / "model.json").read_text())["decoder"]
    assert decoder["version"] == VERSION
    assert decoder["keypoints"] == {
        "name": "crowdpose",
        "names": list(CROWDPOSE.names),
        "flip_pairs": [list(pair) for pair in CROWDPOSE.flip_pairs],
        "skeleton": [list(bone) for bone in CROWDPOSE.skeleton],
    }
    assert sorted(decoder["keypoint_order"]) == list(range(14))
    assert decoder["input"]["short_side"] == model.arch.resolution
    assert decoder["input"]["long_side_multiple_of"] == 64
    assert decoder["input"]["channels"] == "RGB"
    assert decoder["input"]["mean"] == pytest.approx([255 * value for value in IMAGENET_MEAN])
    assert decoder["input"]["std"] == pytest.approx([255 * value for value in IMAGENET_STD])
    assert decoder["outputs"].keys() == {"low", "high", "detections"}
    for name in ("max_people", "detection_threshold", "tag_threshold", "nms_kernel", "adjust", "refine", "decoding"):
        assert decoder["inference"][name] == getattr(model.settings, name)


def test_the_onnx_file_describes_itself(all_formats: Exported, decoding_formats: Exported) -> None:
    for (_, folder), gives in ((all_formats, "maps"), (decoding_formats, "detections")):
        description = json.loads((folder / "model.json").read_text())
        metadata = metadata_of(folder)
        assert (metadata.pop("takes"), metadata.pop("gives")) == ("uint8", gives)
        assert metadata == description["decoder"]
        assert description["formats"]["onnx"]["gives"] == gives


def test_the_metadata_names_the_input_type(exported: Exported, tmp_path: Path) -> None:
    format_writer(exported[0], "onnx", takes="float32").write(tmp_path, exported[0])
    assert metadata_of(tmp_path)["takes"] == "float32"
