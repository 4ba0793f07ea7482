"""Weights made to do harm: they take no more memory than they hold, whatever they claim."""

import json
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.checkpoints import supernet_file
from supernet.checkpoints.litepose_checkpoint import read_published
from supernet.checkpoints.supernet_file import load_supernet
from supernet.errors import UserError
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet
from tests.reliability.file_mutations import DEEP
from tests.reliability.fuzz_encodings import sealed_bytes
from tests.reliability.fuzz_targets import SPACE, supernet_value
from tests.reliability.malicious_files import Call, archived, endless, of_kind, older, tensor, twice

REFUSED_BEFORE = {
    "an array that fills the memory": lambda: archived(of_kind(Call(bytearray, 10**11))),
    "a tensor that is made, not read": lambda: archived(of_kind(Call(torch.Tensor, 10**5, 10**6))),
    "a tensor of no numbers": lambda: archived(
        of_kind(Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (10**6, 10**6), (1, 1), False))
    ),
    "compressed zeros": lambda: archived(
        of_kind(tensor(10**6, (10**6,), (1,))), bytes(4 * 10**6), zipfile.ZIP_DEFLATED
    ),
    "numbers and some compressed zeros": lambda: archived(
        of_kind(1), random.Random(0).randbytes(40_000) + bytes(20_000), zipfile.ZIP_DEFLATED
    ),
    "two entries of one name": lambda: twice(archived(of_kind(1))),
    "two entries of one name but for its case": lambda: twice(archived(of_kind(1)), "archive/DATA.PKL"),
    "an array in the older format": lambda: older(Call(bytearray, 10**11), []),
    "an array at the end of the older format": lambda: older(Call(bytearray, 10**11)),
    "code": lambda: archived(of_kind(Call(os.mkdir, "/tmp/never"))),
}
REFUSED = {
    "terabytes claimed": lambda: archived(of_kind(tensor(10**12, (10**12,), (1,)))),
    "a shape beyond its numbers": lambda: archived(of_kind(tensor(1, (10**12,), (1,)))),
    "one number read a million times": lambda: archived(of_kind(tensor(1, (1000, 1000), (0, 0)))),
    "many tensors of the same numbers": lambda: archived(
        of_kind([tensor(250, (250,), (1,)) for _ in range(90)]), bytes(1000)
    ),
    "lists without end": lambda: archived(of_kind(endless())),
    "lists in lists": lambda: archived(of_kind(DEEP)),
    "a huge number": lambda: archived(of_kind(2**2000)),
}


@pytest.mark.parametrize("name", [*REFUSED_BEFORE, *REFUSED])
def test_weights_that_claim_more_than_they_hold_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "supernet.pt"
    path.write_bytes((REFUSED_BEFORE | REFUSED)[name]())
    if name in REFUSED_BEFORE:  # the unpickler would make it all the same
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpickled"))
    for read in (load_supernet, lambda path: read_published(path, SPACE.smallest())):
        with pytest.raises(UserError, match=r"supernet\.pt is damaged") as caught:
            read(path)
        assert "memory" not in repr(caught.value.__cause__).lower() or name == "terabytes claimed"


@pytest.mark.parametrize("claim", [{"stem_widths": [65528]}, {"stages": "deep"}, {"resolutions": [4096]}])
def test_a_space_larger_than_its_weights_is_refused_before_it_takes_memory(
    claim: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = dict(supernet_value())
    space = json.loads(json.dumps(value["space"]))
    if claim == {"stages": "deep"}:
        space["stages"][0].update(widths=[65528], depths=[200], expand_ratios=[1024])
    else:
        space.update(claim)
    value |= {"space": space, "space_digest": SearchSpace.from_dict(space).digest()}
    (tmp_path / "supernet.pt").write_bytes(sealed_bytes(value))
    if claim == {"resolutions": [4096]}:  # costs nothing
        assert load_supernet(tmp_path).supernet.space.resolutions == (4096,)
        return
    built = SuperNet

    def weightless(space: SearchSpace, num_keypoints: int) -> SuperNet:
        network = built(space, num_keypoints)
        assert all(weight.is_meta for weight in network.parameters())
        return network

    monkeypatch.setattr(supernet_file, "SuperNet", weightless)
    with pytest.raises(UserError, match="does not fit the network"):
        load_supernet(tmp_path)
