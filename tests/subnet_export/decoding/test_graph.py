"""A graph that decodes lists the maxima of the network's own maps, whatever the size of the image and of the batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subnet_export.decoding.detections import list_detections
from subnet_export.decoding.graph import append_decoding
from subnet_export.deployment.runtimes import onnx_session
from supernet.errors import UserError
from supernet.pose.inference import InferenceSettings
from supernet.pose.multiscale_flip import heatmaps, resize

NUM_KEYPOINTS = 3


def passing_on() -> bytes:
    """An ONNX graph whose outputs ``low`` and ``high`` are its inputs, so that a test chooses the maps."""
    import onnx
    from onnx import TensorProto, helper

    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, f"h{name}", f"w{name}"])
        for name, channels in (
            ("low_maps", 2 * NUM_KEYPOINTS),
            ("high_maps", NUM_KEYPOINTS),
            ("low", None),
            ("high", None),
        )
    }
    nodes = [helper.make_node("Identity", [f"{name}_maps"], [name]) for name in ("low", "high")]
    inputs = [values["low_maps"], values["high_maps"]]
    graph = helper.make_graph(nodes, "maps", inputs, [values["low"], values["high"]])
    model: bytes = helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()
    return model


def decode(low: torch.Tensor, high: torch.Tensor, settings: InferenceSettings) -> np.ndarray:
    """Return the detections (B, K, M, 4) of a graph in these maps."""
    import onnx

    model = onnx.load_from_string(passing_on())
    append_decoding(model, NUM_KEYPOINTS, settings)
    session = onnx_session(model.SerializeToString(), 1)
    (detections,) = session.run(None, {"low_maps": low.numpy(), "high_maps": high.numpy()})
    return np.asarray(detections)


def smooth_maps(seed: int, batch: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps of noise without equal pixels, some of it below 0."""
    random = np.random.default_rng(seed)
    low = random.normal(0.1, 0.2, (batch, 2 * NUM_KEYPOINTS, height // 4, width // 4))
    high = random.normal(0.1, 0.2, (batch, NUM_KEYPOINTS, height // 2, width // 2))
    return torch.from_numpy(low.astype(np.float32)), torch.from_numpy(high.astype(np.float32))


@pytest.mark.parametrize(
    "changes",
    [{}, {"decoding": "unbiased"}, {"adjust": False}, {"nms_kernel": 3, "max_people": 100}, {"nms_kernel": 9}],
    ids=str,
)
def test_detections_are_the_maxima_of_the_maps(changes: dict[str, Any]) -> None:
    settings = replace(InferenceSettings(), **changes)
    for seed, (batch, height, width) in enumerate([(1, 64, 64), (2, 64, 112), (3, 96, 48)]):
        low, high = smooth_maps(seed, batch, height, width)
        found = decode(low, high, settings)
        assert found.shape == (batch, NUM_KEYPOINTS, settings.max_people, 4)
        heat = heatmaps(low[:, :NUM_KEYPOINTS], high, (height, width)).numpy()
        tags = resize(low[:, NUM_KEYPOINTS:], (height // 2, width // 2), (height, width)).numpy()
        for index in range(batch):
            expected = list_detections(heat[index], tags[index], settings)
            assert (expected[..., 2] > 0).sum() > 3 * NUM_KEYPOINTS
            np.testing.assert_allclose(found[index], expected, atol=2e-4)


def test_places_without_a_peak_are_zero_and_maps_without_any_give_none() -> None:
    low, high = torch.full((1, 6, 16, 16), -0.5), torch.full((1, 3, 32, 32), -0.5)
    assert not decode(low, high, InferenceSettings()).any()
    high[0, 1, 10, 20] = 9.0
    found = decode(low, high, InferenceSettings())[0]
    assert [int((column[:, 2] > 0).sum()) for column in found] == [0, 1, 0]
    assert not found[1, 1:].any()
    x, y, value, tag = found[1, 0]
    assert abs(x - 41) < 1
    assert abs(y - 21) < 1
    assert value > 0
    assert tag == pytest.approx(-0.5)


def test_equal_pixels_beside_each_other_are_one_detection() -> None:
    low, high = torch.zeros(1, 6, 16, 16), torch.zeros(1, 3, 32, 32)
    high[0, 0, 8:10, 8:10] = 1.0  # its four pixels become equal maxima
    high[0, 0, 20:22, 25] = 0.5
    found = decode(low, high, InferenceSettings())[0, 0]
    assert [value > 0 for value in found[:3, 2]] == [True, True, False]
    heat = heatmaps(low[:, :3], high, (64, 64))[0].numpy()
    expected = list_detections(heat, np.zeros_like(heat), InferenceSettings())[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_settings_that_need_several_passes_are_refused() -> None:
    for changes, name in (({"flip_test": True}, "flip_test"), ({"scales": (0.5, 1.0)}, "scales")):
        with pytest.raises(UserError, match=name):
            decode(*smooth_maps(0, 1, 64, 64), replace(InferenceSettings(), **changes))


def test_the_names_of_nodes_do_not_collide(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_from_string(passing_on())
    append_decoding(model, NUM_KEYPOINTS, InferenceSettings())
    names = [output for node in model.graph.node for output in node.output]
    assert len(names) == len(set(names))
    assert [output.name for output in model.graph.output] == ["detections"]
