"""Checkpoints carry a checksum: every flipped bit or cut is detected, and other tools can still read them."""

import random
import re
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from supernet.checkpoints import container, safe_torch
from supernet.errors import UserError

KIND = "training"


def write_two(folder: Path) -> Path:
    """Write two checkpoints, of steps 1 and 2, the second in place of the first."""
    path = folder / "checkpoint.pt"
    for step in (1, 2):
        generator = torch.Generator().manual_seed(step)
        weights = torch.randn(500, generator=generator)
        container.save(path, KIND, {"step": step, "weights": weights, "moments": weights**2}, keep_previous=True)
    return path


def test_every_single_flipped_bit_of_300_is_refused(tmp_path: Path) -> None:
    path = write_two(tmp_path)
    content = path.read_bytes()
    rng, num_mismatches = random.Random(0), 0
    for _ in range(300):
        place, bit = rng.randrange(len(content)), rng.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"checkpoint\.pt is damaged: .*sha256 (mismatch|is missing)") as caught:
            container.load(path, KIND)
        num_mismatches += "expected " in str(caught.value) and ", got " in str(caught.value)
    assert num_mismatches >= 290  # the others are in the seven characters that mark the checksum


def test_every_flipped_bit_of_the_checksum_is_refused(tmp_path: Path) -> None:
    path = write_two(tmp_path)
    content = path.read_bytes()
    for place in range(8 * (len(content) - 71), 8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(UserError, match=r"checkpoint\.pt is damaged: .*sha256 (mismatch|is missing)"):
            container.load(path, KIND)


def test_every_cut_of_100_is_refused_and_the_previous_checkpoint_takes_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_two(tmp_path)
    content = path.read_bytes()
    rng = random.Random(0)
    for length in [0, 1, len(content) - 1, *(rng.randrange(len(content)) for _ in range(97))]:
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"checkpoint\.pt"):
            container.load(path, KIND)
        assert container.load_newest(path, KIND)["step"] == 1
        assert re.search(r"checkpoint\.pt .*continuing from .*checkpoint\.previous\.pt", caplog.messages.pop())
        caplog.clear()
        assert not path.exists()  # or the next save would replace the good previous one with it
        assert (tmp_path / "checkpoint.damaged.pt").stat().st_size == length


def test_an_undamaged_newest_checkpoint_is_read_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_two(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert container.load_newest(path, KIND)["step"] == 2
    assert caplog.messages == []


def test_if_both_checkpoints_are_damaged_both_are_named(tmp_path: Path) -> None:
    path = write_two(tmp_path)
    for checkpoint in (path, container.previous_of(path)):
        checkpoint.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"checkpoint\.pt .*checkpoint\.previous\.pt"):
        container.load_newest(path, KIND)


def test_other_tools_read_files_with_a_checksum(tmp_path: Path) -> None:
    path = write_two(tmp_path)
    assert torch.load(path, weights_only=True)["step"] == 2
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"sha256:")


def test_values_that_could_not_be_read_back_are_not_written(tmp_path: Path) -> None:
    path = write_two(tmp_path)
    with pytest.raises(safe_torch.DAMAGED, match="TorchVersion"):
        container.save(path, KIND, {"version": torch.__version__})
    assert container.load(path, KIND)["step"] == 2


def test_a_supernet_of_the_format_without_checksum_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"format": 1, "kind": "supernet", "state": {}}, tmp_path / "old.pt")
    assert container.load(tmp_path / "old.pt", "supernet")["state"] == {}
    assert re.search(r"old\.pt .* has no checksum", caplog.text)
    torch.save({"format": 1, "kind": KIND}, tmp_path / "old.pt")
    with pytest.raises(UserError, match=r"old\.pt has format version 1, this release .* reads 2"):
        container.load(tmp_path / "old.pt", KIND)


def test_a_file_of_this_format_must_have_its_checksum(tmp_path: Path) -> None:
    torch.save({"format": 2, "kind": KIND}, tmp_path / "bare.pt")
    with pytest.raises(UserError, match=r"bare\.pt is damaged: its sha256 is missing"):
        container.load(tmp_path / "bare.pt", KIND)


def test_numbers_may_be_those_of_four_tensors() -> None:
    numbers = torch.zeros(100_000)
    assert len(safe_torch.deserialize(safe_torch.serialize([numbers] * 4))) == 4
    with pytest.raises(ValueError, match="more numbers than the file"):
        safe_torch.deserialize(safe_torch.serialize([numbers] * 5))


def test_whole_numbers_may_have_1024_bits() -> None:
    assert safe_torch.deserialize(safe_torch.serialize([2**1024 - 1, -(2**1024) + 1])) == [2**1024 - 1, -(2**1024) + 1]
    for number in (2**1024, -(2**1024)):
        with pytest.raises(ValueError, match="more than 1024 bits"):
            safe_torch.deserialize(safe_torch.serialize([number]))
