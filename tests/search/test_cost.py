"""Costs equal the reference values and PyTorch's own counts, and never fall when a choice grows."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from search.cost import COSTS, arch_costs, costs
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.space import SearchSpace, StageChoices

GOLDEN = Path(__file__).parents[1] / "golden"
REFERENCE = ("macs", "macs_paper", "params")
ENTRIES = json.loads((GOLDEN / "costs.json").read_text())
SPACES = {name: SearchSpace.load(name) for name in ("nano", "litepose")}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['name']}-{entry['joints']}")
def test_costs_equal_the_reference_exactly(entry: dict[str, Any]) -> None:
    arch = Arch.from_dict(entry["arch"])
    assert {name: COSTS[name](arch, entry["joints"]) for name in REFERENCE} == {name: entry[name] for name in REFERENCE}
    many = costs(SPACES["litepose"], SPACES["litepose"].encode([arch]), entry["joints"])
    assert {name: int(many[name][0]) for name in REFERENCE} == {name: entry[name] for name in REFERENCE}


def check_against_torch(arch: Arch) -> None:
    network = LitePose(arch, 17).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, arch.resolution, arch.resolution))
    assert COSTS["macs"](arch, 17) == counter.get_total_flops() // 2
    assert COSTS["params"](arch, 17) == sum(weight.numel() for weight in network.parameters())
    floats = (entry for entry in network.state_dict().values() if entry.is_floating_point())
    assert COSTS["weight_bytes"](arch, 17) == sum(entry.numel() * entry.element_size() for entry in floats)


def test_macs_params_and_weight_bytes_equal_what_torch_counts() -> None:
    rng = np.random.default_rng(0)
    for arch in (SPACES["nano"].sample(rng) for _ in range(3)):
        check_against_torch(arch)


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_what_torch_counts_holds_for_hundreds_of_archs(space: SearchSpace) -> None:
    rng = np.random.default_rng(1)
    for arch in (space.sample(rng) for _ in range(200)):
        check_against_torch(replace(arch, resolution=64))


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the activation buffers that torch's operators read and write in a forward pass of the real network.

    Each convolution writes a new buffer; every other operator (batch norm, activation, sum) works in the newest
    buffer that it reads.
    """

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors = [image]  # kept alive, so that no id is used twice
        self.buffer = {id(image): 0}
        self.sizes = [image.numel() * 4]
        self.steps: list[tuple[set[int], bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        written = out if isinstance(out, torch.Tensor) else out[0]
        used = {self.buffer[id(arg)] for arg in args if id(arg) in self.buffer}
        if not used:
            return out  # does not work on activations
        computes = func is torch.ops.aten.convolution.default
        if computes:
            self.sizes.append(written.numel() * 4)
        self.tensors.append(written)
        self.buffer[id(written)] = len(self.sizes) - 1 if computes else max(used)
        self.steps.append((used | {self.buffer[id(written)]}, computes))
        return out


def recorded_peak(arch: Arch) -> int:
    """Peak of live bytes by the definition of ``memory``, from the recorded operators instead of the list of layers."""
    with torch.no_grad():
        network = LitePose(arch, 17).eval()
        image = torch.zeros(1, 3, arch.resolution, arch.resolution)
        with Recorder(image) as recorder:
            results = network(image)
    steps = [*recorder.steps, ({recorder.buffer[id(result)] for result in results}, False)]
    first, last = {0: 0}, {0: 0}
    for time, (used, _) in enumerate(steps):
        first |= dict.fromkeys(used - first.keys(), time)
        last |= dict.fromkeys(used, time)
    peak: int = max(
        sum(recorder.sizes[buffer] for buffer in first if first[buffer] <= time <= last[buffer])
        for time, (_, computes) in enumerate(steps)
        if computes
    )
    return peak


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_memory_is_the_peak_of_what_torch_needs_at_once(space: SearchSpace) -> None:
    rng = np.random.default_rng(2)
    for arch in (space.smallest(), space.largest(), *(space.sample(rng) for _ in range(8))):
        small = replace(arch, resolution=64)
        assert COSTS["memory"](small, 17) == recorded_peak(small)


def test_memory_of_the_largest_arch_is_in_its_widest_early_layer() -> None:
    # Stage 0, block 0: the stem (24 channels, also waiting for the head), 144 hidden channels at 1/2 and at 1/4.
    narrow_head = replace(SPACES["litepose"].largest(), deconv_widths=(16, 16, 8))
    side = narrow_head.resolution
    before, after = (side // 2) ** 2, (side // 4) ** 2
    assert COSTS["memory"](narrow_head, 17) == 4 * (24 * before + 144 * before + 144 * after)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_costs_of_many_equal_the_walk_over_each(space: SearchSpace) -> None:
    rng = np.random.default_rng(3)
    for num_keypoints in (14, 17):
        archs = [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(500))]
        values_by_name = costs(space, space.encode(archs), num_keypoints)
        assert set(values_by_name) == set(COSTS)
        assert all(values.dtype == np.int64 for values in values_by_name.values())
        expected = [arch_costs(arch, num_keypoints) for arch in archs]
        assert {name: values.tolist() for name, values in values_by_name.items()} == {
            name: [row[name] for row in expected] for name in COSTS
        }


def test_one_arch_costs_what_each_scalar_function_says() -> None:
    arch = SPACES["litepose"].sample(np.random.default_rng(4))
    assert arch_costs(arch, 14) == {name: cost(arch, 14) for name, cost in COSTS.items()}


def subsets(choices: list[int]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.sampled_from(choices), min_size=1, max_size=3).map(sorted).map(tuple)


def stages(stride: int) -> st.SearchStrategy[StageChoices]:
    fields = (subsets([8, 12, 24]), subsets([1, 2, 4]), st.just(stride), subsets([1, 2, 6]), subsets([3, 5, 7]))
    return st.builds(StageChoices, *fields)


ANY_SPACE = st.builds(
    SearchSpace,
    st.just("any"),
    subsets([16, 48, 64]),
    subsets([5, 8, 24]),
    st.tuples(stages(2), stages(2), stages(2), stages(1)),
    st.tuples(*[subsets([3, 8, 16])] * 3),
)


@settings(max_examples=10, deadline=None)
@given(ANY_SPACE, st.integers(0, 2**32), st.integers(1, 20))
def test_costs_hold_for_any_space(space: SearchSpace, seed: int, num_keypoints: int) -> None:
    # Among them: single blocks, one choice only, and a last stage whose first block has a residual.
    genes = space.layout.sample(np.random.default_rng(seed), 20)
    values_by_name = costs(space, genes, num_keypoints)
    for i, arch in enumerate(space.decode(genes)):
        assert {name: int(values[i]) for name, values in values_by_name.items()} == arch_costs(arch, num_keypoints)


def test_no_archs_cost_nothing() -> None:
    assert {name: len(values) for name, values in costs(SPACES["nano"], SPACES["nano"].encode([]), 17).items()} == (
        dict.fromkeys(COSTS, 0)
    )


def test_costs_refuse_genes_outside_the_space() -> None:
    genes = SPACES["nano"].encode([SPACES["nano"].smallest()])
    with pytest.raises(UserError, match=r"resolution: the gene in row 0 .* got 3"):
        costs(SPACES["nano"], genes + np.int16(3), 17)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_no_cost_rises_when_one_choice_is_lowered(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    for start in (space.largest(), *(space.sample(rng) for _ in range(5))):
        genes = space.encode([start])
        walk = [arch_costs(start, 17)]
        while (genes > 0).any():
            genes[0, rng.choice(np.flatnonzero(genes[0] > 0))] -= 1
            genes = space.layout.checked(genes)  # without the blocks past a depth that was lowered
            walk.append(arch_costs(space.decode(genes)[0], 17))
        for before, after in pairwise(walk):
            assert all(after[name] <= before[name] for name in COSTS)
            assert after["macs"] < before["macs"]
        assert walk[-1] == arch_costs(space.smallest(), 17)
