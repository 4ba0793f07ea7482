"""Costs equal the reference figures and what torch counts, and never fall when a choice grows."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from search.cost import COSTS
from search.evolution import shrink
from supernet.arch import Arch
from supernet.litepose import LitePose
from supernet.space import SearchSpace

GOLDEN = Path(__file__).parents[1] / "golden"
ENTRIES = json.loads((GOLDEN / "costs.json").read_text())
SPACES = {name: SearchSpace.load(name) for name in ("nano", "litepose")}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['name']}-{entry['joints']}")
def test_costs_equal_the_reference_exactly(entry: dict[str, Any]) -> None:
    arch = Arch.from_dict(entry["arch"])
    assert {name: cost(arch, entry["joints"]) for name, cost in COSTS.items()} == {name: entry[name] for name in COSTS}


def test_macs_and_params_equal_what_torch_counts() -> None:
    rng = np.random.default_rng(0)
    for arch in (SPACES["nano"].sample(rng) for _ in range(3)):
        network = LitePose(arch, 17).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, arch.resolution, arch.resolution))
        assert COSTS["macs"](arch, 17) == counter.get_total_flops() // 2
        assert COSTS["params"](arch, 17) == sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_no_cost_rises_when_one_choice_is_lowered(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    walk: list[dict[str, int]] = []

    def remember(arch: Arch) -> bool:
        walk.append({name: cost(arch, 17) for name, cost in COSTS.items()})
        return False  # go on, down to the smallest

    for start in (space.largest(), *(space.sample(rng) for _ in range(5))):
        walk.clear()
        assert shrink(space, start, remember, rng) is None
        for before, after in pairwise(walk):
            assert all(after[name] <= before[name] for name in COSTS)
            assert after["macs"] < before["macs"]
        assert walk[-1] == {name: cost(space.smallest(), 17) for name, cost in COSTS.items()}
