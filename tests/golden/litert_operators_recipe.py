"""Writes litert_operators.json: the operators that Google's converter makes of a network, for both inputs.

Run ``python -m tests.golden.litert_operators_recipe`` in an environment with litert-torch 0.10.0 and this project.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from subnet_export.deployment.deployed_network import DeploymentNetwork, Input
from supernet.arch import Arch
from supernet.litepose import LitePose
from tests.helpers.litert_files import operators

FOLDER = Path(__file__).parent
NUM_KEYPOINTS = 17


class _Named(nn.Module):
    """A network whose outputs have names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        low, high = self.network(images)
        return {"low": low, "high": high}


def converted(network: LitePose, takes: Input) -> list[Any]:
    """Return the operators of the converter's file."""
    import litert_torch

    side = network.arch.resolution
    shape = (1, side, side, 3) if takes == "uint8" else (1, 3, side, side)
    images = torch.zeros(shape, dtype=getattr(torch, takes))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        litert_torch.convert(_Named(DeploymentNetwork(network, takes)), sample_kwargs={"images": images}).export(path)
        return operators(path.read_bytes())


def main() -> None:
    """Write the file."""
    arch = Arch.from_dict(json.loads((FOLDER / "arch_random3.json").read_text(encoding="utf-8")))
    network = LitePose(arch, NUM_KEYPOINTS).eval()
    takes: tuple[Input, ...] = ("uint8", "float32")
    found = {name: converted(network, name) for name in takes}
    (FOLDER / "litert_operators.json").write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
