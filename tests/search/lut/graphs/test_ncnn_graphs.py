"""The measured ncnn graphs have the layers of exports, and compute what the network does."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search.lut.graphs.ncnn_graphs import param_of
from search.lut.libraries import NcnnLibrary
from subnet_export.benchmarking.targets import random_network
from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.formats import NCNN
from subnet_export.deployment.library_runtimes import open_runtime
from subnet_export.deployment.writers import WriterInputs, write_format
from supernet.arch import Arch
from supernet.costs.latency_blocks import blocks_of
from supernet.pose.geometry import normalise
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE

ARCH = SPACE.sample(np.random.default_rng(3))
KINDS_WITH_WEIGHTS = ("Convolution", "ConvolutionDepthWise", "Deconvolution")


def layers(param: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """Kind, name and parameters of every layer."""
    rows = [line.split() for line in param.splitlines()[2:]]
    return [(row[0], row[1], tuple(sorted(row[4 + int(row[2]) + int(row[3]) :]))) for row in rows]


def weights_of(param: str, network: torch.nn.Module) -> bytes:
    """The ``.bin`` file: for each layer a type (0: float32), its weights and its bias."""
    state, content = network.state_dict(), b""
    for kind, name, _ in layers(param):
        if kind in KINDS_WITH_WEIGHTS:
            weight = state.pop(f"{name}.weight")
            content += bytes(4) + (weight.transpose(0, 1) if kind == "Deconvolution" else weight).numpy().tobytes()
            if f"{name}.bias" in state:
                content += state.pop(f"{name}.bias").numpy().tobytes()
    assert not state
    return content


def test_a_network_has_the_layers_of_its_export_and_computes_the_same(tmp_path: Path) -> None:
    network = random_network(ARCH, NUM_KEYPOINTS)
    write_format(NCNN, WriterInputs(network, "float32", list), tmp_path)
    exported = tmp_path / NCNN.files[0]
    param = param_of(ARCH, NUM_KEYPOINTS)
    kinds = [
        Counter((kind, parameters) for kind, _, parameters in layers(text)) for text in (param, exported.read_text())
    ]
    assert kinds[0] == kinds[1]
    deployed = DeploymentNetwork(network, "float32")
    exported.write_text(param)
    exported.with_suffix(".bin").write_bytes(weights_of(param, deployed.network))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), np.uint8))
    maps = open_runtime(tmp_path, NCNN)(images)
    for found, expected in zip(maps, deployed(normalise(images)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", [ARCH, SPACE.largest()], ids=["random", "largest"])
def test_blocks_make_up_the_network_without_remainder(arch: Arch) -> None:
    def counted(params: list[str]) -> Counter[tuple[str, tuple[str, ...]]]:
        found = [(kind, parameters) for param in params for kind, _, parameters in layers(param)]
        return Counter(entry for entry in found if entry[0] not in ("Input", "Split"))

    blocks = blocks_of(arch, NUM_KEYPOINTS)
    whole = counted([param_of(arch, NUM_KEYPOINTS)])
    assert counted([param_of(block, NUM_KEYPOINTS) for block in blocks]) == whole


def test_zeros_stand_for_the_weights() -> None:
    library = NcnnLibrary(1)
    opened = library.open_text(param_of(ARCH, NUM_KEYPOINTS))
    maps: Any = library.runner(opened, [(1, 3, 64, 64)])()
    low, high = maps
    assert (low.c, low.h, low.w) == (2 * NUM_KEYPOINTS, 16, 16)
    assert (high.c, high.h, high.w) == (NUM_KEYPOINTS, 32, 32)
    assert not np.array(low).any()
