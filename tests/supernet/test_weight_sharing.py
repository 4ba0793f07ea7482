"""A subnet inside the supernet equals the extracted network, and uses no other weights."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from supernet.arch import Arch, Stage, make_divisible
from supernet.errors import UserError
from supernet.litepose import normalisation_layers
from supernet.space import SearchSpace, StageChoices
from supernet.weight_sharing import SuperNet

GOLDEN = Path(__file__).parents[1] / "golden"
Array = npt.NDArray[np.float64]


def randomised(
    space: SearchSpace, num_keypoints: int, seed: int, adapt: Callable[[torch.nn.Module], None] | None = None
) -> SuperNet:
    """A supernet in evaluation mode with random kernel transforms, statistics, gains and shifts."""
    torch.manual_seed(seed)
    supernet = SuperNet(space, num_keypoints, adapt)
    with torch.no_grad():
        for transform in supernet.kernel_transforms.values():
            transform += 0.1 * torch.randn_like(transform)
        for norm in normalisation_layers(supernet):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(std=0.1)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)
        for name, weight in supernet.network.named_parameters():
            if name.endswith("conv.3.weight"):
                weight.normal_(std=0.1)
    return supernet.eval()


@pytest.fixture(scope="module")
def supernet() -> SuperNet:
    """The full space with 14 keypoints; tests do not change it."""
    return randomised(SearchSpace.load("litepose"), 14, 0)


@pytest.fixture(scope="module")
def precise(supernet: SuperNet) -> SuperNet:
    """The same in float64."""
    return copy.deepcopy(supernet).double()


def images(size: int = 64, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def published() -> list[Arch]:
    entries = json.loads((GOLDEN / "costs.json").read_text())
    return [Arch.from_dict(e["arch"]) for e in entries if e["joints"] == 14 and e["name"].startswith("search")]


def random_archs(space: SearchSpace, num: int) -> list[Arch]:
    rng = np.random.default_rng(7)
    return [space.sample(rng) for _ in range(num)]


@torch.no_grad()
def test_subnets_equal_their_extracted_networks(supernet: SuperNet, precise: SuperNet) -> None:
    """To the bit in float64, and in float32 those that are no random ones up to rounding."""
    space = supernet.space
    named, random = [*published(), space.largest(), space.smallest()], random_archs(space, 50)
    assert len({arch.digest() for arch in (*named, *random)}) == 56
    check_extracted(named, supernet, precise)
    check_extracted(random, None, precise)


@pytest.mark.slow
@torch.no_grad()
def test_a_hundred_random_subnets_equal_their_extracted_networks(supernet: SuperNet, precise: SuperNet) -> None:
    check_extracted(random_archs(supernet.space, 150)[50:], supernet, precise)


def check_extracted(archs: list[Arch], supernet: SuperNet | None, precise: SuperNet) -> None:
    x = images(batch=1)
    for arch in archs:
        for inside, outside in zip(precise(x.double(), arch), precise.extract(arch)(x.double()), strict=True):
            assert torch.equal(inside, outside)
        if supernet is None:
            continue
        for inside, outside in zip(supernet(x, arch), supernet.extract(arch)(x), strict=True):
            assert (inside - outside).abs().max() <= 1e-5 * outside.std()


@torch.no_grad()
def test_the_largest_subnet_is_the_shared_network_itself(supernet: SuperNet) -> None:
    largest = supernet.extract(supernet.space.largest()).state_dict()
    shared = supernet.network.state_dict()
    assert list(largest) == list(shared)
    assert all(torch.equal(largest[name], shared[name]) for name in shared)


def test_an_extracted_network_owns_its_weights(supernet: SuperNet) -> None:
    before = copy.deepcopy(supernet.state_dict())
    network = supernet.extract(supernet.space.smallest())
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_extraction_gives_the_same_network_in_evaluation_mode_from_either_mode() -> None:
    supernet = randomised(SearchSpace.load("nano"), 14, 1)
    arch = supernet.space.sample(np.random.default_rng(3))
    networks = [supernet.train(training).extract(arch) for training in (False, True)]
    assert not any(network.training for network in networks)
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def shrink_by_hand(kernel: Array, size: int, transforms: dict[int, Array]) -> Array:
    """(C, 1, k, k) to (C, 1, size, size), one value at a time: new[p] = sum over q of centre[q] * transform[q, p]."""
    while kernel.shape[-1] > size:
        smaller = kernel.shape[-1] - 2
        matrix = transforms[smaller]
        new = np.zeros((kernel.shape[0], 1, smaller, smaller))
        for row in range(smaller):
            for column in range(smaller):
                for from_row in range(smaller):
                    for from_column in range(smaller):
                        factor = matrix[from_row * smaller + from_column, row * smaller + column]
                        new[:, 0, row, column] += kernel[:, 0, from_row + 1, from_column + 1] * factor
        kernel = new
    return kernel


def slices_by_hand(arch: Arch, shared: dict[str, Array], num_keypoints: int) -> dict[str, Array]:
    """State dict of ``arch``, written from the description of LitePose and of weight sharing."""
    out: dict[str, Array] = {}

    def conv(name: str, *leading: int) -> None:
        out[f"{name}.weight"] = shared[f"network.{name}.weight"][tuple(slice(size) for size in leading)]

    def norm(name: str, width: int) -> None:
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            out[f"{name}.{leaf}"] = shared[f"network.{name}.{leaf}"][:width]

    conv("first.0.0", 32, 3)
    norm("first.0.1", 32)
    conv("first.1.0", 32, 1)
    norm("first.1.1", 32)
    conv("first.2", arch.stem_width, 32)
    norm("first.3", arch.stem_width)
    width, skips = arch.stem_width, [arch.stem_width]
    for i, stage in enumerate(arch.stages):
        for j in range(stage.depth):
            block, hidden = f"stage.{i}.{j}", make_divisible(width * stage.expand_ratios[j])
            conv(f"{block}.inv.0", hidden, width)
            norm(f"{block}.inv.1", hidden)
            transforms = {size: shared[f"kernel_transforms.stage{i}_block{j}_{size + 2}to{size}"] for size in (5, 3)}
            kernel = shared[f"network.{block}.depth_conv.0.weight"][:hidden]
            out[f"{block}.depth_conv.0.weight"] = shrink_by_hand(kernel, stage.kernel_sizes[j], transforms)
            norm(f"{block}.depth_conv.1", hidden)
            conv(f"{block}.point_conv.0", stage.width, hidden)
            norm(f"{block}.point_conv.1", stage.width)
            width = stage.width
        skips.append(width)
    for level, wide in enumerate(arch.deconv_widths):
        conv(f"deconv_refined.{level}", width, wide)
        conv(f"deconv_raw.{level}", skips[3 - level], wide)
        norm(f"deconv_bnrelu.{level}.0", wide)
        width = wide
        if level > 0:
            for name, inputs in ((f"final_refined.{level - 1}", width), (f"final_raw.{level - 1}", skips[2 - level])):
                conv(f"{name}.conv.0", inputs, 1)
                norm(f"{name}.conv.1", inputs)
                conv(f"{name}.conv.3", num_keypoints * (3 - level), inputs)
    return out


def test_an_extracted_network_has_the_slices_computed_by_hand(precise: SuperNet) -> None:
    arch = Arch(
        320,
        16,
        (
            Stage(24, 2, (6, 3, 4), (7, 5, 3)),
            Stage(32, 2, (3, 4, 6, 3), (3, 3, 7, 5)),
            Stage(72, 2, (4, 4, 3, 6, 3), (5, 3, 7, 3, 5)),
            Stage(40, 1, (6, 3, 4, 3, 4), (3, 7, 5, 5, 3)),
        ),
        (48, 24, 32),
    )
    shared = {name: value.numpy() for name, value in precise.state_dict().items()}
    expected = slices_by_hand(arch, shared, 14)
    state = precise.extract(arch).state_dict()
    assert set(state) - set(expected) == {name for name in state if name.endswith("num_batches_tracked")}
    for name, value in expected.items():
        assert state[name].shape == value.shape, name
        np.testing.assert_allclose(state[name].numpy(), value, rtol=0, atol=1e-12, err_msg=name)


def test_transformations_start_as_the_plain_centre() -> None:
    supernet = SuperNet(SearchSpace.load("litepose"), 14)
    smallest = supernet.extract(supernet.space.smallest()).state_dict()
    name = "stage.2.1.depth_conv.0.weight"
    assert torch.equal(smallest[name], supernet.network.state_dict()[name][: len(smallest[name]), :, 2:5, 2:5])


def test_gradients_land_on_the_slice_alone() -> None:
    shallow = StageChoices((8, 16), (1, 2), 2, (2, 3), (3, 5))
    deep = StageChoices((16, 24), (1, 2, 3), 2, (3, 4), (3, 5, 7))
    stages = (shallow, deep, deep, replace(deep, stride=1))
    supernet = randomised(SearchSpace("small", (128,), (8, 16), stages, ((16, 24), (16, 24), (16, 24))), 14, 2).train()
    arch = Arch(
        128,
        8,
        (
            Stage(16, 2, (3,), (3,)),
            Stage(16, 2, (4, 3), (3, 7)),
            Stage(24, 2, (3,), (3,)),
            Stage(16, 1, (3, 4), (5, 3)),
        ),
        (24, 16, 24),
    )
    low, high = supernet(images(), arch)
    (low.square().mean() + high.square().mean()).backward()
    shapes = {name: value.shape for name, value in supernet.extract(arch).named_parameters()}
    for name, weight in supernet.network.named_parameters():
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        inside = torch.zeros_like(weight, dtype=torch.bool)
        if name in shapes:
            channels = tuple(slice(size) for size in shapes[name][:2])
            # A 5 x 5 or 3 x 3 kernel is made of the centre 5 x 5 of the 7 x 7.
            border = int(".depth_conv.0." in name and weight.shape[-1] > shapes[name][-1])
            centre = slice(border, weight.shape[-1] - border)
            inside[(*channels, centre, centre) if border else channels] = True
            assert gradient[inside].abs().sum() > 0, name
        assert not gradient[~inside].any(), name
    used = {
        f"stage{i}_block{j}_{size + 2}to{size}"
        for i, stage in enumerate(arch.stages)
        for j, kernel_size in enumerate(stage.kernel_sizes)
        for size in (5, 3)
        if kernel_size <= size < supernet.space.stages[i].kernel_sizes[-1]
    }
    trained = {
        name for name, value in supernet.kernel_transforms.items() if value.grad is not None and value.grad.any()
    }
    assert trained == used


def test_training_normalises_by_the_batch_and_records_no_statistics() -> None:
    supernet = randomised(SearchSpace.load("nano"), 14, 3)
    arch = supernet.space.sample(np.random.default_rng(4))
    network = supernet.extract(arch).train()
    supernet.train()
    before = {name: value.clone() for name, value in supernet.named_buffers()}
    with torch.no_grad():
        for inside, outside in zip(supernet(images(), arch), network(images()), strict=True):
            torch.testing.assert_close(inside, outside, rtol=0, atol=1e-5 * outside.std().item())
    assert all(torch.equal(value, before[name]) for name, value in supernet.named_buffers())


def test_training_neither_reads_nor_writes_the_shared_statistics() -> None:
    supernet = randomised(SearchSpace.load("nano"), 14, 5).train()
    arch = supernet.space.sample(np.random.default_rng(6))
    expected = supernet(images(), arch)
    for norm in normalisation_layers(supernet):
        for buffer in norm.buffers():
            buffer.fill_(-7)
    for actual, maps in zip(supernet(images(), arch), expected, strict=True):
        assert torch.equal(actual, maps)
    assert all((buffer == -7).all() for norm in normalisation_layers(supernet) for buffer in norm.buffers())


def test_a_trained_part_that_records_statistics_records_none_in_the_shared_ones() -> None:
    """A part that ``adapt`` changed may record statistics; training passes it no slices of the shared ones."""
    own: list[torch.nn.BatchNorm2d] = []

    def record(part: torch.nn.Module) -> None:
        for norm in normalisation_layers(part):
            norm.track_running_stats = True
            norm.running_mean, norm.running_var = torch.zeros(norm.num_features), torch.ones(norm.num_features)
            norm.num_batches_tracked = torch.tensor(0)
            own.append(norm)

    supernet = randomised(SearchSpace.load("nano"), 14, 5, record).train()
    before = {name: value.clone() for name, value in supernet.named_buffers()}
    supernet(images(), supernet.space.sample(np.random.default_rng(6)))
    assert own
    assert all(norm.num_batches_tracked == 1 for norm in own)
    assert all(torch.equal(value, before[name]) for name, value in supernet.named_buffers())


def test_modes_and_archs_may_alternate() -> None:
    supernet = randomised(SearchSpace.load("nano"), 14, 4)
    first, second = random_archs(supernet.space, 2)
    with torch.no_grad():
        expected = [supernet(images(), arch)[0] for arch in (first, second)]
        supernet.train()(images(), first)
        supernet.eval()
        assert all(
            torch.equal(supernet(images(), arch)[0], low) for arch, low in zip((first, second), expected, strict=True)
        )


@pytest.mark.parametrize("call", ["forward", "extract"])
def test_an_arch_outside_the_space_is_refused(call: str, supernet: SuperNet) -> None:
    arch = SearchSpace.load("nano").smallest()
    with pytest.raises(UserError, match="outside the space; allowed: 256"):
        supernet.extract(arch) if call == "extract" else supernet(images(), arch)
