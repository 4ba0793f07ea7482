"""Templates are assembled from cached parts, and equal the networks that LitePose builds."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from supernet import subnet_templates
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.space import SearchSpace
from supernet.subnet_templates import SubnetTemplates

NANO = SearchSpace.load("nano")


def sampled(space: SearchSpace, num: int) -> list[Arch]:
    """The extremes of a space and random archs of it."""
    rng = np.random.default_rng(0)
    return [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(num))]


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    """Shapes of all parameters by name."""
    return {name: value.shape for name, value in network.named_parameters()}


@pytest.mark.parametrize("max_parts", [4096, 3])
@pytest.mark.parametrize("space", ["nano", "litepose"])
def test_they_have_the_layers_of_new_networks(space: str, max_parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal printed layers (kinds, sizes, strides, groups, order) and parameters, however many parts are cached."""
    monkeypatch.setattr(subnet_templates, "_MAX_PARTS", max_parts)
    whole = SearchSpace.load(space)
    templates = SubnetTemplates(whole, 14)
    for arch in sampled(whole, 20):
        with torch.device("meta"):
            expected = LitePose(arch, 14)
        printed_expected = repr(expected)
        for training in (True, False):
            network = templates(arch, training)
            printed = repr(network)
            assert printed.replace("track_running_stats=False", "track_running_stats=True") == printed_expected
            assert shapes(network) == shapes(expected)
            assert ("track_running_stats=False" in printed) == training
            assert {module.training for module in network.modules()} == {training}
            assert all(value.is_meta for value in network.parameters())
        assert len(templates._parts) <= max_parts


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """Layers with weights by name."""
    return {name: part for name, part in network.named_modules(remove_duplicate=False) if [*part.parameters(False)]}


def test_networks_share_parts_but_no_part_is_used_twice_in_a_network() -> None:
    """Archs that differ in one width share all layers without it; within a network every layer occurs once."""
    templates, largest = SubnetTemplates(NANO, 14), NANO.largest()
    last = NANO.deconv_widths[2][0]
    narrow = replace(largest, deconv_widths=(*largest.deconv_widths[:2], last))
    first, second = layers(templates(largest, training=True)), layers(templates(narrow, training=True))
    assert len({id(layer) for layer in first.values()}) == len(first) > 50
    other = {name.rpartition(".conv.")[0] or name for name in first if first[name] is not second[name]}
    assert other == {"deconv_refined.2", "deconv_raw.2", "deconv_bnrelu.2.0", "final_refined.1"}
    evaluated = layers(templates(largest, training=False))
    assert not any(evaluated[name] is layer for name, layer in first.items())


def test_every_part_of_a_trained_network_is_adapted_once() -> None:
    """A part that was changed in place is cached and not changed again for the next network."""
    adapted: list[nn.Module] = []
    templates = SubnetTemplates(NANO, 14, adapted.append)
    for arch in sampled(NANO, 20):
        templates(arch, training=False)
    assert not adapted
    for arch in sampled(NANO, 20):
        trained = {id(layer) for layer in layers(templates(arch, training=True)).values()}
        assert trained <= {id(layer) for part in adapted for layer in layers(part).values()}
    assert len({id(part) for part in adapted}) == len(adapted)


def test_copies_of_a_supernet_share_them() -> None:
    """They hold no weights, so a teacher does not need its own."""
    templates = SubnetTemplates(NANO, 14)
    assert copy.deepcopy({"templates": templates})["templates"] is templates


def test_an_arch_outside_the_space_is_refused() -> None:
    """No network is built for it."""
    with pytest.raises(UserError, match="resolution is 512, which is outside the space"):
        SubnetTemplates(NANO, 14)(SearchSpace.load("litepose").largest(), training=True)
