"""An exported model is read back unchanged, in the published format, or refused."""

import hashlib
import json
import operator
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subnet_export import model as model_module
from subnet_export.ap_measurement import check_measurement
from subnet_export.exported_model import ExportedModel, Measurement
from subnet_export.model import load_model, save_model
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import TrainedSupernet
from supernet.costs.analytic import params_and_macs
from supernet.errors import UserError
from supernet.io import checksum
from supernet.litepose import LitePose
from supernet.pose.datasets import build
from supernet.pose.evaluation import evaluate
from supernet.pose.inference import PoseEstimator

Exported = tuple[ExportedModel, Path]


def maps(network: torch.nn.Module) -> list[torch.Tensor]:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return list(network(images))


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    """A copy of the exported folder, which the test may damage."""
    return Path(shutil.copytree(exported[1], tmp_path / "model"))


def redescribe(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change model.json, including its checksum."""
    value = json.loads((folder / "model.json").read_text())
    value.pop("checksum")
    change(value)
    (folder / "model.json").write_text(json.dumps(checksum.with_checksum(value)))


def test_the_folder_holds_only_weights_description_and_card(exported: Exported) -> None:
    assert sorted(os.listdir(exported[1])) == ["README.md", "model.json", "pose.py", "weights.pt"]
    assert os.listdir(exported[1].parent) == ["model"]


def test_weights_load_in_a_fresh_litepose_under_the_published_names(exported: Exported, golden: Path) -> None:
    model, folder = exported
    state = torch.load(folder / "weights.pt", weights_only=True)
    network = LitePose(model.arch, 14)
    network.load_state_dict(state, strict=True)
    for written, read in zip(maps(model.network), maps(network.eval()), strict=True):
        torch.testing.assert_close(read, written, rtol=0, atol=1e-5 * written.std().item())
    assert all(type(tensor) is torch.Tensor and tensor.is_contiguous() for tensor in state.values())
    # The golden names are those of LitePose-XS, whose stages are deeper.
    published = list(json.loads((golden / "state_dict_xs_crowdpose.json").read_text()))
    depths = [stage.depth for stage in model.arch.stages]
    assert list(state) == [
        name
        for name in published
        if not name.startswith("stage.") or int(name.split(".")[2]) < depths[int(name.split(".")[1])]
    ]


def test_a_model_read_back_has_the_same_maps_and_metrics(exported: Exported) -> None:
    model, folder = exported
    loaded = load_model(folder)
    assert not loaded.network.training
    pairs = zip(maps(model.network), maps(loaded.network), strict=True)
    assert all(torch.equal(written, read) for written, read in pairs)
    assert replace(loaded, network=model.network) == model
    images = build(loaded.dataset, "test")
    before, again = (evaluate(exported_model.estimator(batch_size=4), images) for exported_model in (model, loaded))
    assert len(before.results) > 1
    assert again.results == before.results
    for name, value in model.measurement.metrics.items():
        assert again.metrics[name] == pytest.approx(value, abs=1e-6)


def test_an_exported_model_is_the_calibrated_subnet(exported: Exported, trained: TrainedSupernet) -> None:
    model, _ = exported
    subnet = trained.supernet.extract(model.arch)
    assert all(
        torch.equal(value, dict(subnet.named_parameters())[name]) for name, value in model.network.named_parameters()
    )
    statistics = {name: value for name, value in model.network.named_buffers() if name.endswith("running_mean")}
    assert all(value.abs().sum() > 0 for value in statistics.values())
    assert (model.calibration.num_images, model.calibration.resolution) == (6, 64)
    assert (model.origin.space, model.origin.space_digest) == ("tiny", trained.supernet.space.digest())
    assert (model.measurement.split, model.measurement.num_images) == ("test", 3)


def test_the_description_says_how_to_use_the_network(exported: Exported) -> None:
    model, folder = exported
    value = json.loads((folder / "model.json").read_text())
    assert Arch.from_dict(value["arch"]) == model.arch
    assert value["keypoints"] == {"set": "crowdpose", "names": list(model.keypoints.names)}
    assert value["input"]["short_side"] == model.arch.resolution
    assert (value["input"]["mean"], value["input"]["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    low, high = maps(model.network)
    assert [64 // value["outputs"][name]["stride"] for name in ("low", "high")] == [low.shape[-1], high.shape[-1]]
    assert value["weights"]["sha256"] == hashlib.sha256((folder / "weights.pt").read_bytes()).hexdigest()
    assert len(json.dumps(value)) < 5000


def test_costs_are_the_reference_ones(golden: Path) -> None:
    entries = json.loads((golden / "costs.json").read_text())
    for entry in (e for e in entries if e["name"] in ("search-XS", "random-3")):
        costs = params_and_macs(Arch.from_dict(entry["arch"]), entry["joints"])
        assert costs == {"params": entry["params"], "macs": entry["macs"]}


def test_predict_finds_the_people_that_evaluation_finds(exported: Exported) -> None:
    model, folder = exported
    image = build(model.dataset, "test")[0].image
    people = load_model(folder).predict(image)
    (expected,) = PoseEstimator(model.network, model.arch.resolution, model.keypoints, model.settings)([image])
    assert len(people.scores) > 1
    np.testing.assert_array_equal(people.poses, expected.poses)
    np.testing.assert_array_equal(people.scores, expected.scores)
    border = float(np.median(people.scores))
    kept = model.predict(image, min_score=border)
    assert len(kept.poses) == len(kept.scores) == (people.scores >= border).sum()


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_a_changed_byte_of_the_weights_is_refused(place: int, copied: Path) -> None:
    content = bytearray((copied / "weights.pt").read_bytes())
    content[place] ^= 1
    (copied / "weights.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pt .*model\.json"):
        load_model(copied)


def test_weights_of_another_network_are_refused_even_with_the_right_checksum(copied: Path) -> None:
    state = torch.load(copied / "weights.pt", weights_only=True)
    for wrong, message in (
        ({**state, "first.2.weight": torch.zeros(2)}, r"does not fit the network.*first\.2\.weight"),
        ({"step": 3}, "not a state dict of plain tensors"),
        ([1], "not a state dict of plain tensors"),
    ):
        torch.save(wrong, copied / "weights.pt")
        digest = hashlib.sha256((copied / "weights.pt").read_bytes()).hexdigest()
        redescribe(copied, operator.methodcaller("__setitem__", "weights", {"file": "weights.pt", "sha256": digest}))
        with pytest.raises(UserError, match=message):
            load_model(copied)


def test_a_missing_file_is_named(copied: Path) -> None:
    (copied / "weights.pt").unlink()
    with pytest.raises(UserError, match=r"cannot read weights .*weights\.pt: No such file"):
        load_model(copied)
    (copied / "model.json").unlink()
    with pytest.raises(UserError, match=r"no exported model in .*run python -m subnet_export"):
        load_model(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.update(format=99), "format version 99, this release reads 1"),
        (lambda value: value.pop("arch"), "arch is missing or not an object"),
        (lambda value: value["arch"].update(input_channel="8"), "input_channel .* got '8'"),
        (lambda value: value["arch"].update(input_channel=16), r"weights\.pt does not fit the network"),
        (lambda value: value["keypoints"].update(set="hands"), "keypoint set 'hands' is unknown"),
        (lambda value: value["keypoints"]["names"].reverse(), "keypoints must be .* got"),
        (lambda value: value["input"].update(mean=[0, 0, 0]), "input must be .* got"),
        (lambda value: value["outputs"]["low"].update(stride=8), "outputs must be .* got"),
        (lambda value: value["inference"].update(fliptest=True), "no option inference.fliptest, did you mean"),
        (lambda value: value["measurement"].pop("split"), "option measurement.split is missing"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], None], message: str, copied: Path
) -> None:
    redescribe(copied, change)
    with pytest.raises(UserError, match=message) as caught:
        load_model(copied)
    assert str(copied) in str(caught.value)


def test_settings_that_an_older_release_did_not_know_have_their_defaults(exported: Exported, copied: Path) -> None:
    redescribe(copied, lambda value: value["inference"].pop("scales"))
    assert load_model(copied).settings == exported[0].settings
    assert exported[0].settings.scales == (1.0,)


def test_a_changed_description_is_refused_unless_its_checksum_was_taken_out(exported: Exported, copied: Path) -> None:
    path = copied / "model.json"
    path.write_text(path.read_text().replace('"detection_threshold": 0.', '"detection_threshold": 0.9'))
    with pytest.raises(UserError, match=r"model\.json was changed .*: its checksum differs; .* remove its"):
        load_model(copied)
    value = json.loads(path.read_text())
    del value["checksum"]
    path.write_text(json.dumps(value))
    assert load_model(copied).settings.detection_threshold > exported[0].settings.detection_threshold


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_a_description_that_is_no_object_is_refused(content: str, copied: Path) -> None:
    (copied / "model.json").write_text(content)
    with pytest.raises(UserError, match=r"model\.json"):
        load_model(copied)


def test_an_existing_folder_is_never_overwritten(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for taken in (tmp_path, tmp_path / "link"):
        with pytest.raises(UserError, match="exists already and is never overwritten"):
            save_model(taken, exported[0])
    assert os.listdir(tmp_path) == ["link"]


def test_a_network_in_training_mode_is_not_exported(exported: Exported, tmp_path: Path) -> None:
    network = LitePose(exported[0].arch, 14).train()
    with pytest.raises(ValueError, match="training mode"):
        save_model(tmp_path / "model", replace(exported[0], network=network))


def test_nothing_is_left_when_a_write_fails(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for call in ("fsync", "replace", "rename"):
        monkeypatch.setattr(os, call, fail)
        with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
            save_model(tmp_path / "model", exported[0])
        monkeypatch.undo()
        assert os.listdir(tmp_path) == []


def test_a_model_that_is_read_back_different_is_not_kept(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(folder: Path) -> ExportedModel:
        model = load_model(folder)
        with torch.no_grad():
            next(model.network.parameters())[0, 0, 0, 0] += 0.01
        return model

    monkeypatch.setattr(model_module, "load_model", damaged)
    with pytest.raises(UserError, match="same maps"):
        save_model(tmp_path / "model", exported[0])
    assert os.listdir(tmp_path) == []


def test_a_model_whose_metrics_differ_when_read_back_is_not_kept(exported: Exported, tmp_path: Path) -> None:
    model, _ = exported
    images = build(model.dataset, "test")
    save_model(tmp_path / "right", model, lambda read: check_measurement(read, images, 4))
    metrics = {**model.measurement.metrics, "AP": model.measurement.metrics["AP"] + 2e-6}
    wrong = replace(model, measurement=Measurement("test", 3, metrics))
    with pytest.raises(UserError, match=r"AP of the model read back is .* nothing was kept"):
        save_model(tmp_path / "wrong", wrong, lambda read: check_measurement(read, images, 4))
    assert os.listdir(tmp_path) == ["right"]


def test_a_stratum_without_people_is_null_in_the_description_and_not_a_figure_on_the_card(
    exported: Exported, tmp_path: Path
) -> None:
    model, _ = exported
    metrics = {**model.measurement.metrics, "APL": -1.0}
    written = replace(model, measurement=replace(model.measurement, metrics=metrics))
    save_model(tmp_path / "model", written)
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    assert description["measurement"]["metrics"]["APL"] is None
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| APL | n/a |" in card
    assert "-1.0" not in card
    assert load_model(tmp_path / "model").measurement == written.measurement


def test_a_shipped_model_without_a_format_is_called_by_its_name() -> None:
    with pytest.raises(UserError, match=r"^pretrained:photos_small was not .* --model pretrained:photos_small "):
        load_model("pretrained:photos_small", format="onnx")


def test_the_command_that_adds_a_format_quotes_the_folder(exported: Exported, tmp_path: Path) -> None:
    folder = shutil.copytree(exported[1], tmp_path / "my models & more")
    with pytest.raises(UserError) as failure:
        load_model(folder, format="mnn")
    assert str(folder) in shlex.split(str(failure.value).partition("; run ")[2])


def test_a_file_that_no_format_has_is_not_taken_for_its_folder(copied: Path) -> None:
    (copied / "net.onnx").touch()
    with pytest.raises(UserError, match=r"net\.onnx is not a file of an exported model; .*model\.onnx"):
        load_model(copied / "net.onnx")
    assert load_model(copied / "model.json").runtime is None
