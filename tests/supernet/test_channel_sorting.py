"""Sorted channels: the most important come first, and the network's outputs stay the same."""

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from supernet import channel_sorting
from supernet.arch import Arch, Stage
from supernet.litepose import LitePose
from supernet.pose.keypoints import keypoint_set
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.augmentation import Augmentation
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.training.phases import Phase, schedule
from supernet.training.trainer import Trainer
from supernet.weight_sharing import SuperNet
from tests.helpers.training import step_settings, steps, train

GOLDEN = Path(__file__).parents[1] / "golden"
NANO = SearchSpace.load("nano")
EQUAL_WIDTHS = Arch(
    64,
    8,
    (Stage(8, 2, (2, 3), (3, 3)), Stage(8, 2, (2,), (3,)), Stage(16, 2, (3, 2), (5, 3)), Stage(16, 1, (2, 2), (3, 7))),
    (16, 8, 8),
)
"""The last stage adds its input to its output, so both stages must have the same order."""


def scrambled(arch: Arch, seed: int = 0) -> LitePose:
    """A network whose every tensor is random, in float64 and evaluation mode."""
    torch.manual_seed(seed)
    network = LitePose(arch, 17).double().eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("conv.3.weight"):
                tensor.normal_(std=0.1)
    return network


@pytest.mark.parametrize("arch", [NANO.largest(), NANO.smallest(), EQUAL_WIDTHS], ids=["largest", "smallest", "equal"])
@pytest.mark.parametrize("dimension", channel_sorting.DIMENSIONS)
def test_the_function_stays_the_same(arch: Arch, dimension: str) -> None:
    network, images = scrambled(arch), torch.randn(2, 3, 64, 96, dtype=torch.float64)
    before = network(images)
    weights = network.state_dict()
    orders = channel_sorting.channel_orders(weights, arch, dimension)
    assert any((order != torch.arange(len(order))).any() for order in orders.values())
    channel_sorting.reorder_channels(weights, arch, orders)
    for old, new in zip(before, network(images), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dimension", channel_sorting.DIMENSIONS)
def test_sorted_channels_are_read_with_falling_weight(dimension: str) -> None:
    network = scrambled(EQUAL_WIDTHS)
    weights = network.state_dict()
    channel_sorting.reorder_channels(
        weights, EQUAL_WIDTHS, channel_sorting.channel_orders(weights, EQUAL_WIDTHS, dimension)
    )
    again = channel_sorting.channel_orders(weights, EQUAL_WIDTHS, dimension)
    assert all(torch.equal(order, torch.arange(len(order))) for order in again.values())
    if dimension == "expand_ratio":  # read by one layer: the projection
        for name, weight in weights.items():
            if "point_conv.0" in name:
                assert weight.abs().sum((0, 2, 3)).diff().max() <= 0
    else:  # read by two layers: the next one and a prediction
        stem = weights["stage.0.0.inv.0.weight"], weights["final_raw.1.conv.3.weight"]
        assert torch.stack([weight.abs().sum((0, 2, 3)) for weight in stem]).sum(0).diff().max() <= 0
        deconv = weights["deconv_refined.2.weight"].transpose(0, 1), weights["final_refined.0.conv.3.weight"]
        assert torch.stack([weight.abs().sum((0, 2, 3)) for weight in deconv]).sum(0).diff().max() <= 0


def test_every_tensor_of_a_network_is_known() -> None:
    network = LitePose(NANO.largest(), 17)
    known = channel_sorting.channel_axes(NANO.largest())
    fixed = {"first.0.0", "first.0.1", "first.1.0", "first.1.1"}  # three-channel input and the stem's 32 channels
    assert {name.rpartition(".")[0] for name in network.state_dict()} == fixed | set(known)


def trainer(phases: list[Phase], num_steps: int) -> Trainer:
    torch.manual_seed(0)
    space = SearchSpace.load("nano")
    people, settings = SyntheticPeople(keypoint_set("coco"), 8, 1, 64, 64), step_settings(augmentation=Augmentation())
    return Trainer(SuperNet(space, 17), PoseObjective(17), people, schedule(phases, space, num_steps), settings)


def test_training_goes_on_as_if_nothing_had_been_sorted() -> None:
    alone = Phase("alone", 1, ("resolution",), ("largest",), 1e-3, resolution_scale=0.45)
    plain, sorted_ = (trainer([alone], 4) for _ in range(2))

    def sort(step: int) -> None:
        if step == 2:
            before = copy.deepcopy(sorted_.supernet.network.state_dict())
            sorted_.sort_channels(channel_sorting.DIMENSIONS)
            after = sorted_.supernet.network.state_dict()
            assert sum(not torch.equal(before[name], value) for name, value in after.items()) > 100

    train(plain)
    for report in steps(sorted_):
        sort(report.step + 1)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 64, 64))).float()
    networks = [(run.supernet.train(), run.averaged()) for run in (plain, sorted_)]
    for trained, same in zip(*networks, strict=True):
        with torch.no_grad():
            outputs = zip(trained(images, NANO.largest()), same(images, NANO.largest()), strict=True)
        for old, new in outputs:
            torch.testing.assert_close(new, old, rtol=0, atol=float(old.std()) * 1e-3)


def test_sorting_moves_moments_and_averages_with_their_weights_and_changes_no_output() -> None:
    run = trainer([Phase("alone", 1, ("resolution",), ("largest",), 1e-2, resolution_scale=0.45)], 3)
    train(run)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 64, 64))).float()

    def seen() -> tuple[list[torch.Tensor], dict[str, npt.NDArray[np.float32]]]:
        with torch.no_grad():
            outputs = [maps for net in (run.supernet.train(), run.averaged()) for maps in net(images, NANO.largest())]
        tensors: list[Mapping[str, torch.Tensor]] = [run.weights, run.average.average]
        tensors += run.adam.moments_by_name(run.weights)
        return outputs, {
            name: torch.stack([kind[name].detach().flatten() for kind in tensors]).numpy().copy()
            for name in run.weights
        }

    outputs, before = seen()
    run.sort_channels(channel_sorting.DIMENSIONS)
    same_outputs, after = seen()
    for old, new in zip(outputs, same_outputs, strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-5)
    # A weight keeps its average and its moments wherever it went.
    for name in before:
        then, now = (values[:, np.lexsort(values)] for values in (before[name], after[name]))
        np.testing.assert_array_equal(now, then, err_msg=name)
    assert sum((before[name] != after[name]).any() for name in before) > 100
    assert all(np.any(values[2:]) for name, values in before.items() if name.startswith("network."))


def test_channels_are_sorted_once_where_they_become_elastic() -> None:
    every = ("resolution", "kernel_size", "depth", "expand_ratio", "width")
    phases = [
        Phase("alone", 1, ("resolution",), ("largest",), 1e-2, resolution_scale=0.45),
        Phase("elastic", 1, every, ("largest",), 1e-2, resolution_scale=0.45),
        Phase("on", 1, every, ("largest",), 1e-2, resolution_scale=0.45),
    ]
    run = trainer(phases, 6)
    sorted_steps: dict[str, list[bool]] = {}

    while (scheduled := run.current_phase()) is not None:
        run.start_phase(scheduled)
        weights = run.supernet.network.state_dict()
        for dimension in channel_sorting.DIMENSIONS:
            orders = channel_sorting.channel_orders(weights, NANO.largest(), dimension).values()
            is_sorted = all(torch.equal(order, torch.arange(len(order))) for order in orders)
            sorted_steps.setdefault(scheduled.phase.name, []).append(is_sorted)
        for batch, data_seconds in run.batches(scheduled):
            run.train_step(scheduled, batch, data_seconds)
    assert sorted_steps == {"alone": [False, False], "elastic": [True, True], "on": [False, False]}
