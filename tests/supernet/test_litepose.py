"""The network is the published LitePose: its state-dict names, its forward results."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from supernet.arch import Arch
from supernet.litepose import LitePose, normalisation_layers
from tests.golden.recipes import fill_parameter, image_batch

GOLDEN = Path(__file__).parents[1] / "golden"
# The reference rounds in float32 with fused multiply-adds, through up to 38 blocks. Any other rounding, float64
# included, differs by up to 1.2e-4 (root mean square, in standard deviations of the output).
FUSED = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
TOLERANCE = 1e-4 if FUSED else 2e-4
NETS = [("xs_crowdpose", "search-XS", 14, 0), ("s_coco", "search-S", 17, 1), ("random3_crowdpose", None, 14, 2)]


def published(name: str) -> Arch:
    """The arch called ``name`` among those whose costs were measured."""
    entries = json.loads((GOLDEN / "costs.json").read_text())
    return next(Arch.from_dict(entry["arch"]) for entry in entries if entry["name"] == name)


def filled(arch: Arch, num_keypoints: int) -> LitePose:
    """The network with every parameter and statistic drawn by the recipe from its name, in evaluation mode."""
    network = LitePose(arch, num_keypoints)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(fill_parameter(name, shape)) for name, shape in shapes.items()})
    return network.eval()


def test_state_dict_has_the_published_names_and_shapes() -> None:
    expected = json.loads((GOLDEN / "state_dict_xs_crowdpose.json").read_text())
    state = LitePose(published("search-XS"), 14).state_dict()
    assert {name: list(value.shape) for name, value in state.items()} == expected
    assert list(state) == list(expected)


@pytest.mark.parametrize(("file", "name", "num_keypoints", "seed"), NETS)
def test_forward_agrees_with_the_published_network(file: str, name: str | None, num_keypoints: int, seed: int) -> None:
    arch = published(name) if name else Arch.load(GOLDEN / "arch_random3.json")
    expected = np.load(GOLDEN / f"forward_{file}.npz")
    with torch.no_grad():
        outputs = filled(arch, num_keypoints)(torch.from_numpy(image_batch(seed, 128)))
    for key, output in zip(("low", "high"), outputs, strict=True):
        assert output.shape == expected[key].shape
        error = np.sqrt(np.square(output.numpy() - expected[key]).mean())
        assert error < TOLERANCE * expected[key].std()


def test_outputs_are_at_a_quarter_and_at_half_of_an_oblong_input() -> None:
    low, high = filled(published("search-XS"), 14)(torch.zeros(2, 3, 64, 128))
    assert low.shape == (2, 28, 16, 32)
    assert high.shape == (2, 14, 32, 64)


@pytest.mark.parametrize("size", [(64, 72), (40, 64)])
def test_an_input_that_the_strides_do_not_divide_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        filled(published("search-XS"), 14)(torch.zeros(1, 3, *size))


def test_a_fresh_network_starts_with_heatmaps_near_zero() -> None:
    torch.manual_seed(0)
    network = LitePose(published("search-XS"), 14)
    low, high = network(torch.from_numpy(image_batch(0, 64, 2)))
    assert max(low[:, :14].abs().max().item(), high.abs().max().item()) < 0.1


def test_every_normalisation_layer_is_found() -> None:
    network = LitePose(published("search-XS"), 14)
    assert len(normalisation_layers(network)) == sum(name.endswith("running_mean") for name in network.state_dict())
