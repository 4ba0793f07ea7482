"""Code in untrusted files is never run, and configuration that would act on something is treated as text."""

import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from subnet_export.model import load_model
from supernet.arch import Arch
from supernet.checkpoints import safe_torch
from supernet.checkpoints.exported_network import load_net
from supernet.checkpoints.litepose_checkpoint import read_published
from supernet.checkpoints.supernet_file import load_supernet
from supernet.errors import UserError
from supernet.space import SearchSpace
from supernet.training import run_folder
from tests.reliability.fuzz_encodings import sealed_bytes
from tests.reliability.fuzz_targets import SPACE, TARGETS, load_weights, supernet_value
from tests.reliability.malicious_files import Call, described, of_kind


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of an exported model."""
    (tmp_path / "export").mkdir()
    TARGETS["model"].valid(tmp_path / "export")
    return tmp_path / "export" / "model"


SECRET = {"_target_": "os.system", "command": "touch ran", "_args_": ["touch ran"], "home": "${oc.env:HOME}"}


def test_targets_and_interpolations_in_files_are_mere_text(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arch = tmp_path / "arch.json"
    SPACE.smallest().save(arch, {"meta": SECRET})
    assert Arch.load(arch) == SPACE.smallest()
    for value in ({**SPACE.smallest().to_dict(), **SECRET}, {**SPACE.smallest().to_dict(), "img_size": SECRET}):
        arch.write_text(json.dumps(value))
        with pytest.raises(UserError, match=r"arch\.json"):
            Arch.load(arch)
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({**SPACE.to_dict(), **SECRET}))
    with pytest.raises(UserError, match="_target_"):
        SearchSpace.load(tmp_path / "space.yaml")

    value = {**supernet_value(), **SECRET}
    value |= {"dataset": {**value["dataset"], **SECRET}, "evaluation": SECRET}
    (tmp_path / "supernet.pt").write_bytes(sealed_bytes(value))
    trained = load_supernet(tmp_path)
    assert (trained.dataset["home"], trained.evaluation) == ("${oc.env:HOME}", SECRET)

    config = {"steps": 3, "space": SECRET}
    run_folder.write_config(tmp_path, config)
    run_folder.save_checkpoint(tmp_path, {"config": config})
    assert run_folder.load_checkpoint(tmp_path)["config"]["space"] == SECRET

    described(model, lambda value: value["dataset"].update(SECRET))
    assert load_net(model).dataset["home"] == "${oc.env:HOME}"
    described(model, lambda value: value["inference"].update(SECRET))
    with pytest.raises(UserError, match=r"there is no option inference\._target_"):
        load_model(model)
    assert not (tmp_path / "ran").exists()


PAYLOADS = ("torch", "sealed", "older torch", "bare pickle")


def payload(writer: str, marker: Path) -> bytes:
    """A file that makes ``marker`` where it is unpickled without care."""
    value = of_kind(Call(os.mkdir, str(marker)))
    content = io.BytesIO()
    if writer == "sealed":
        return bytes(safe_torch.append_checksum(safe_torch.serialize(value)))
    if writer == "bare pickle":
        return pickle.dumps(value, protocol=2)
    torch.save(value, content, _use_new_zipfile_serialization=writer == "torch")
    return content.getvalue()


@pytest.mark.parametrize("writer", PAYLOADS)
def test_no_reader_of_weights_runs_code(
    writer: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "ran"
    content = payload(writer, marker)
    run_folder.write_config(tmp_path, {})
    for path in (tmp_path / "supernet.pt", tmp_path / "checkpoint.pt", tmp_path / "weights.pt"):
        path.write_bytes(content)
    readers: list[Callable[[], object]] = [
        lambda: load_supernet(tmp_path),
        lambda: run_folder.load_checkpoint(tmp_path),
        lambda: read_published(tmp_path / "supernet.pt", SPACE.smallest()),
        lambda: load_weights(tmp_path / "weights.pt"),
    ]
    shutil.copy(model / "model.json", tmp_path / "model.json")
    for read in readers:
        with pytest.raises(UserError, match=r"\.pt"):
            read()
    assert not marker.exists()
