"""Checkpoints of the published code become exported models, and no code in them is ever run."""

import io
import json
import os
import pickle
import runpy
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subnet_export.model import load_model
from supernet.arch import Arch
from supernet.checkpoints.litepose_checkpoint import read_published
from supernet.errors import UserError
from supernet.pose.inference import InferenceSettings, PoseEstimator
from supernet.pose.keypoints import CROWDPOSE
from tests.golden.recipes import fill_parameter, image_batch

State = dict[str, torch.Tensor]
MODULE = "subnet_export.import_litepose"


@pytest.fixture(scope="module")
def arch(golden: Path) -> Arch:
    """LitePose-XS."""
    entries = json.loads((golden / "costs.json").read_text())
    return next(Arch.from_dict(entry["arch"]) for entry in entries if entry["name"] == "search-XS")


@pytest.fixture(scope="module")
def state(golden: Path) -> State:
    """Entries as published, filled by the recipe behind the golden outputs."""
    shapes = json.loads((golden / "state_dict_xs_crowdpose.json").read_text())
    return {name: torch.from_numpy(np.asarray(fill_parameter(name, tuple(shape)))) for name, shape in shapes.items()}


def written(folder: Path, value: Any, **options: bool) -> Path:
    torch.save(value, folder / "checkpoint.pth.tar", **options)
    return folder / "checkpoint.pth.tar"


def error(network: torch.nn.Module, golden: Path) -> float:
    """Largest root mean square distance to the published network's outputs, in their standard deviations."""
    expected = np.load(golden / "forward_xs_crowdpose.npz")
    with torch.no_grad():
        outputs = network(torch.from_numpy(image_batch(0, 128)))
    distances = (
        np.sqrt(np.square(output.numpy() - expected[key]).mean()) / expected[key].std()
        for key, output in zip(("low", "high"), outputs, strict=True)
    )
    return float(max(distances))


@pytest.mark.parametrize("prefix", ["", "module.", "1.", "module.1.", "1.module."])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_every_way_of_writing_gives_the_published_outputs(
    prefix: str, half: bool, nested: bool, arch: Arch, state: State, golden: Path, tmp_path: Path
) -> None:
    named = {
        prefix + name: value.half() if half and value.is_floating_point() else value for name, value in state.items()
    }
    around = {"epoch": 3, "model": "litepose", "perf": 0.5, "optimizer": {"lr": 1e-3}, "best_state_dict": named}
    path = written(tmp_path, {**around, "state_dict": named} if nested else named)
    network = read_published(path, arch, 14)
    assert not network.training
    rounded = {name: (named[prefix + name].to(value.dtype)) for name, value in state.items()}
    torch.testing.assert_close(dict(network.state_dict()), rounded, rtol=0, atol=0)
    if not half:
        assert error(network, golden) < 2e-4


def test_old_files_without_counters_are_read(arch: Arch, state: State, golden: Path, tmp_path: Path) -> None:
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    path = written(tmp_path, old, _use_new_zipfile_serialization=False)
    network = read_published(path, arch, 14)
    assert error(network, golden) < 2e-4
    image = np.zeros((64, 64, 3), np.uint8)
    PoseEstimator(network, 64, CROWDPOSE, InferenceSettings())([image])  # it counts as calibrated


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("first.2.weight"), "lacks 1 entries, first first.2.weight"),
        (
            lambda state: state.update({"first.9.weight": torch.zeros(1)}),
            "has, beyond .* 1 entries, first first.9.weigh",
        ),
        (
            lambda state: state.update({"first.2.weight": torch.zeros(8, 32, 1, 1)}),
            r"first.2.weight is \[8, 32, 1, 1\], but .* has \[16, 32, 1, 1\]",
        ),
        (lambda state: state["first.2.weight"].fill_(float("nan")), "first.2.weight holds .* not finite"),
        (lambda state: state.update({"first.2.weight": torch.zeros(16, 32, 1, 1, dtype=torch.long)}), "not finite"),
        (
            lambda state: state.update({"first.3.bias": torch.zeros(16).to_sparse()}),
            "more than tensors and plain values",
        ),
        (lambda state: state.update({"first.3.bias": torch.full((16,), 1e300, dtype=torch.double)}), "not finite"),
        (lambda state: state.update({"first.2.weight": 3}), "holds no state dict of tensors"),
        (lambda state: state.clear(), "holds no state dict of tensors"),
    ],
)
def test_entries_that_do_not_fit_are_named(
    change: Callable[[State], None], message: str, arch: Arch, state: State, tmp_path: Path
) -> None:
    changed = {name: value.clone() for name, value in state.items()}
    change(changed)
    with pytest.raises(UserError, match=message):
        read_published(written(tmp_path, changed), arch, 14)


class _Payload:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def _zip() -> bytes:
    content = io.BytesIO()
    torch.save({"first.2.weight": _Payload()}, content)
    return content.getvalue()


def _legacy() -> bytes:
    content = io.BytesIO()
    torch.save({"first.2.weight": _Payload()}, content, _use_new_zipfile_serialization=False)
    return content.getvalue()


def _tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            member, inside = tarfile.TarInfo(name), pickle.dumps(_Payload())
            member.size = len(inside)
            archive.addfile(member, io.BytesIO(inside))
    return content.getvalue()


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("content", [_zip, _legacy, _tar, lambda: pickle.dumps(_Payload())])
def test_nothing_in_a_file_is_run(
    content: Callable[[], bytes], forced: bool, arch: Arch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / "checkpoint.pth.tar"
    path.write_bytes(content())
    with pytest.raises(UserError, match="which could run code; nothing was run") as caught:
        read_published(path, arch, 14)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["checkpoint.pth.tar"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_cut_and_missing_files_are_named(share: float, arch: Arch, state: State, tmp_path: Path) -> None:
    path = written(tmp_path, state)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"checkpoint .*checkpoint\.pth\.tar is damaged"):
        read_published(path, arch, 14)
    with pytest.raises(UserError, match=r"cannot read checkpoint .*nowhere: No such file"):
        read_published(tmp_path / "nowhere", arch, 14)


def test_the_script_writes_a_model_that_predicts(
    arch: Arch,
    state: State,
    golden: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arch.save(tmp_path / "arch.json")
    path = written(tmp_path, state)
    arguments = [MODULE, str(path), str(tmp_path / "arch.json"), "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", [*arguments, "--keypoints", "crowdpose"])
    runpy.run_module(MODULE, run_name="__main__")
    model = load_model(tmp_path / "runs" / "export" / "latest")
    assert error(model.network, golden) < 2e-4
    assert (model.arch, model.keypoints, model.objective.num_keypoints) == (arch, CROWDPOSE, 14)
    assert model.measurement.metrics == {}
    card = (tmp_path / "runs" / "export" / "latest" / "README.md").read_text()
    assert "- Converted from a checkpoint of the published LitePose code.\n- Not fine-tuned.\n- Batch-norm" in card
    assert "- Batch-norm statistics are those of the checkpoint." in card
    assert "AP was not measured" in card
    assert "0 images" not in card
    assert "model-index" not in card  # hubs refuse one without results
    assert model.dataset["keypoints"] == "crowdpose"
    people = model.predict(np.zeros((48, 64, 3), np.uint8))
    assert people.poses.shape[1:] == (14, 3)

    monkeypatch.setattr(sys, "argv", [*arguments, "--keypoints", "coco", "--output", str(tmp_path / "other")])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(MODULE, run_name="__main__")
    assert stop.value.code == 2
    assert "is [28, 24, 1, 1], but this arch with 17 keypoints has [34, 24, 1, 1]" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
