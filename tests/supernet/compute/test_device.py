"""The device that a command computes on."""

from types import SimpleNamespace

import pytest
import torch

from supernet.compute.device import pick_device
from supernet.errors import UserError


def test_a_gpu_with_a_number_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch, "empty", lambda *_, device: SimpleNamespace(device=device))  # as if it existed
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert current == [torch.device("cuda", 1)]
    assert pick_device("cpu") == torch.device("cpu")
    assert len(current) == 1


@pytest.mark.parametrize("name", ["meta", "gpu", "cuda:x", ""])
def test_what_is_no_device_is_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=f"device '{name}' is not available"):
        pick_device(name)
