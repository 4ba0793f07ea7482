"""Supernets as safetensors: the same supernet comes back, and any change of the file is noticed."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from supernet.checkpoints import safetensors_file
from supernet.checkpoints.lineage import TrainingData, extended, training_data_of
from supernet.checkpoints.pretrained import located
from supernet.checkpoints.supernet_file import (
    SAFETENSORS_FILE,
    SUPERNET_FILE,
    is_supernet,
    load_supernet,
    save_safetensors,
)
from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.pose.inference import InferenceSettings
from supernet.space import SearchSpace
from tests.helpers.evaluated_supernet import write_supernet
from tests.supernet.checkpoints.test_pretrained import Server, cache, name_of, server

__all__ = ["cache", "server"]  # fixtures
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A supernet as a safetensors file."""
    write_supernet(tmp_path)
    trained = load_supernet(tmp_path)
    path = tmp_path / "shared" / SAFETENSORS_FILE
    save_safetensors(path, trained, trained.dataset)
    return path


def test_the_same_supernet_comes_back_from_file_folder_and_any_name(shared: Path, tmp_path: Path) -> None:
    own = load_supernet(tmp_path / SUPERNET_FILE)
    plain = tmp_path / "0123abcd"
    plain.write_bytes(shared.read_bytes())
    for place in (shared, shared.parent, plain):
        assert is_supernet(place)
        read = load_supernet(place)
        state = own.supernet.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in read.supernet.state_dict().items())
        assert read.supernet.space == own.supernet.space
        for name in ("keypoints", "objective", "trained_on"):
            assert getattr(read, name) == getattr(own, name)
        for name in ("dataset", "evaluation"):  # JSON has lists only
            assert getattr(read, name) == json.loads(json.dumps(getattr(own, name)))
        settings = [from_mapping(InferenceSettings, trained.evaluation, "") for trained in (read, own)]
        assert settings[0] == settings[1]


def test_all_data_sets_of_the_weights_are_kept_also_where_the_last_one_was_the_first(tmp_path: Path) -> None:
    write_supernet(tmp_path)
    trained = load_supernet(tmp_path)
    own, between = training_data_of(trained.dataset), TrainingData("coco", "photographs")
    path = tmp_path / SAFETENSORS_FILE
    save_safetensors(path, replace(trained, trained_on=extended((own, between), own)), trained.dataset)
    assert set(load_supernet(path).trained_on) == {own, between}


def test_other_programs_read_the_tensors(shared: Path, tmp_path: Path) -> None:
    state = load_supernet(tmp_path / SUPERNET_FILE).supernet.state_dict()
    assert safetensors.load_file(shared).keys() == state.keys()


def test_a_url_with_a_checksum_names_it(server: Server, shared: Path) -> None:
    name = name_of(server, "/a/supernet.safetensors", shared.read_bytes())
    assert located(name).suffix == ".safetensors"
    assert load_supernet(name).path == located(name)
    assert located(name).stem == hashlib.sha256(shared.read_bytes()).hexdigest()


def test_every_changed_byte_is_noticed(shared: Path) -> None:
    content = shared.read_bytes()
    for place in [*range(0, len(content), len(content) // 60), len(content) - 1]:
        changed = bytearray(content)
        changed[place] ^= 1
        shared.write_bytes(changed)
        with pytest.raises(UserError, match=r"supernet\.safetensors|0x|sha256|supernet"):
            load_supernet(shared)
    shared.write_bytes(content[:-1])
    with pytest.raises(UserError, match="damaged"):
        load_supernet(shared)


def test_other_safetensors_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors.save({"a": torch.zeros(2)}))
    assert not is_supernet(path)
    path.write_bytes(safetensors.save({"a": torch.zeros(2)}, {"kind": "pt"}))
    assert not is_supernet(path)
    with pytest.raises(UserError, match="not a supernet file"):
        load_supernet(path)
    path.write_bytes(safetensors.save({"a": torch.zeros(2)}, {"kind": "supernet", "format": "9"}))
    with pytest.raises(UserError, match="format version '9'"):
        load_supernet(path)


def test_the_description_is_plain_text(shared: Path) -> None:
    header = safetensors_file._header(shared.read_bytes())
    assert all(isinstance(value, str) for value in header.values())
    assert SearchSpace.from_dict(json.loads(header["description"])["space"]) == load_supernet(shared).supernet.space
