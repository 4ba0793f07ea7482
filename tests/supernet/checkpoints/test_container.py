"""Checkpoints are read back unchanged, and other files are refused without executing anything in them."""

import copy
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supernet.checkpoints import container, safe_torch
from supernet.checkpoints.supernet_file import SUPERNET_FILE, load_supernet, save_supernet
from supernet.errors import UserError
from supernet.pose.keypoints import CROWDPOSE
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

DATASET = {"kind": "synthetic", "keypoints": "crowdpose", "width": 96, "height": 96, "test": {"num_images": 2}}
EVALUATION = {"flip_test": True, "detection_threshold": 0.2}
OBJECTIVE = PoseObjective(14, pull_weight=0.5)


@pytest.fixture(scope="module")
def supernet() -> SuperNet:
    torch.manual_seed(0)
    return SuperNet(SearchSpace.load("nano"), CROWDPOSE.num)


def saved(folder: Path, supernet: SuperNet) -> Path:
    path = folder / SUPERNET_FILE
    save_supernet(path, supernet.space, supernet.state_dict(), CROWDPOSE, DATASET, EVALUATION, OBJECTIVE)
    return path


def test_a_supernet_is_read_back_unchanged(tmp_path: Path, supernet: SuperNet) -> None:
    path = saved(tmp_path, supernet)
    for source in (path, tmp_path, str(tmp_path)):
        loaded = load_supernet(source)
        assert loaded.path == path
        assert loaded.supernet.space == supernet.space
        assert (loaded.keypoints, loaded.dataset, loaded.evaluation) == (CROWDPOSE, DATASET, EVALUATION)
        assert loaded.objective == OBJECTIVE
        assert not loaded.supernet.training
        state = supernet.state_dict()
        assert list(loaded.supernet.state_dict()) == list(state)
        assert all(torch.equal(value, state[name]) for name, value in loaded.supernet.state_dict().items())


def test_tensors_and_plain_values_are_read_back_unchanged(tmp_path: Path) -> None:
    rng = np.random.default_rng(3).bit_generator.state
    value = {"step": 7, "rng": rng, "list": [1, (2.5, None)]}
    tensor = torch.arange(4, dtype=torch.int64)
    container.save(tmp_path / "state.pt", "training", {**value, "tensor": tensor})
    loaded = container.load(tmp_path / "state.pt", "training")
    assert torch.equal(loaded["tensor"], tensor)
    assert {key: loaded[key] for key in value} == value


def test_a_file_of_another_kind_is_refused(tmp_path: Path, supernet: SuperNet) -> None:
    container.save(tmp_path / "supernet.pt", "training", {})
    with pytest.raises(UserError, match=r"supernet\.pt is not a supernet file"):
        load_supernet(tmp_path)
    torch.save(supernet.state_dict(), tmp_path / "supernet.pt")
    with pytest.raises(UserError, match=r"supernet\.pt is not a supernet file"):
        load_supernet(tmp_path)


def test_a_file_of_another_format_version_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 999, "kind": "supernet"}, tmp_path / "supernet.pt")
    with pytest.raises(UserError, match=r"has format version 999, this release \(.*\) reads 2"):
        load_supernet(tmp_path)


def test_a_missing_file_is_named_with_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no trained supernet at .*nowhere.*python -m supernet\.train"):
        load_supernet(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"cannot read training file .*state\.pt: No such file"):
        container.load(tmp_path / "state.pt", "training")


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(kept: float, tmp_path: Path, supernet: SuperNet) -> None:
    path = saved(tmp_path, supernet)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"supernet\.pt .*restore|cannot read .*supernet\.pt"):
        load_supernet(path)


def other_formats() -> dict[str, bytes]:
    numbers = io.BytesIO()
    np.save(numbers, np.arange(3))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("page.html", "<html>")
    return {
        "html": b"<!doctype html><title>404</title>",
        "npy": numbers.getvalue(),
        "zip": archive.getvalue(),
        "zeros": bytes(500),
    }


@pytest.mark.parametrize("kind", other_formats())
def test_files_of_other_formats_are_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "supernet.pt").write_bytes(other_formats()[kind])
    with pytest.raises(UserError, match=r"supernet\.pt"):
        load_supernet(tmp_path)


class Payload:
    """Makes a folder when it is unpickled without restrictions."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "with checksum", "legacy torch", "pickle"])
@pytest.mark.parametrize("forced", [False, True])
def test_code_in_a_file_does_not_run(
    writer: str, forced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if forced:  # asks torch.load to run code wherever its caller did not forbid it
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "marker"
    value = {"format": 1, "kind": "supernet", "state": Payload(marker)}
    path = tmp_path / "supernet.pt"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(value, protocol=2))
    elif writer == "with checksum":  # a checksum does not make a file trustworthy
        path.write_bytes(safe_torch.append_checksum(safe_torch.serialize(value)))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(UserError, match=r"supernet\.pt"):
        load_supernet(tmp_path)
    assert not marker.exists()


def test_a_space_that_does_not_fit_its_digest_is_refused(tmp_path: Path, supernet: SuperNet) -> None:
    path = saved(tmp_path, supernet)
    value = container.load(path, "supernet")
    value["space"]["stem_widths"] = [8]
    container.save(path, "supernet", value)
    with pytest.raises(UserError, match=r"supernet\.pt: the space does not match its digest"):
        load_supernet(path)


@pytest.mark.parametrize("part", ["space", "space_digest", "keypoints", "dataset", "evaluation", "objective", "state"])
def test_a_supernet_that_lacks_a_part_is_refused_by_its_name(part: str, tmp_path: Path, supernet: SuperNet) -> None:
    path = saved(tmp_path, supernet)
    value = container.load(path, "supernet")
    for wrong in ({key: entry for key, entry in value.items() if key != part}, {**value, part: 7}):
        container.save(path, "supernet", wrong)
        with pytest.raises(UserError, match=rf"supernet\.pt is incomplete: {part} is missing or malformed"):
            load_supernet(path)


def test_weights_that_do_not_fit_the_network_are_named(supernet: SuperNet) -> None:
    state = supernet.state_dict()
    for wrong in (
        {name: value for name, value in state.items() if name != "network.first.2.weight"},
        {**state, "network.first.2.weight": torch.zeros(1)},
    ):
        with pytest.raises(UserError, match=r"file\.pt does not fit .* first network\.first\.2\.weight"):
            container.load_state(supernet, wrong, "file.pt")
    with pytest.raises(UserError, match="1 entries differ, first surplus"):
        container.load_state(supernet, {**state, "surplus": torch.zeros(1)}, "file.pt")


def test_weights_may_be_stored_in_16_bits_but_statistics_may_not(tmp_path: Path, supernet: SuperNet) -> None:
    with torch.no_grad():
        supernet.network.get_buffer("first.0.1.running_var")[0] = 1e6  # far outside the range of 16 bits
    half, exact = container.in_half(supernet), supernet.state_dict()
    weights = {name for name, _ in supernet.named_parameters()}
    assert {name for name, value in half.items() if value.dtype == torch.float16} == weights
    path = tmp_path / SUPERNET_FILE
    save_supernet(path, supernet.space, half, CROWDPOSE, DATASET, EVALUATION, OBJECTIVE)
    for name, value in load_supernet(path).supernet.state_dict().items():
        assert value.dtype == exact[name].dtype
        torch.testing.assert_close(value, exact[name], rtol=2**-11 if name in weights else 0.0, atol=2**-25)
    statistic = "network.first.0.1.running_mean"
    with pytest.raises(UserError, match=f"1 entries differ, first {statistic}"):
        container.load_state(supernet, {**half, statistic: half[statistic].half()}, "file.pt")
    with torch.no_grad():
        changed = copy.deepcopy(supernet)
        changed.network.get_parameter("first.2.weight").view(-1)[0] = 7e4
    with pytest.raises(UserError, match=r"network\.first\.2\.weight"):
        container.in_half(changed)


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, supernet: SuperNet) -> None:
    path = saved(tmp_path, supernet)
    before = path.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        container.save(path, "supernet", {"state": lambda: None})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["supernet.pt"]


def test_a_full_disk_is_reported_and_leaves_the_old_file(tmp_path: Path, supernet: SuperNet) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    path = saved(tmp_path, supernet)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write .*supernet\.pt"):
            saved(tmp_path, supernet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["supernet.pt"]


def test_reading_a_supernet_does_not_import_the_compiler(golden: Path) -> None:
    """It takes a second, in every command."""
    program = (
        "import sys; from supernet.checkpoints.supernet_file import load_supernet; load_supernet(sys.argv[1]); "
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'sympy') if name in sys.modules])"
    )
    path = golden / "release" / "supernet_format_2.pt"
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout == "[]\n"
