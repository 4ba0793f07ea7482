"""Converts a ``torch.export`` archive to a LiteRT file: ``python to_litert.py SOURCE TARGET``.

The archive's size of images is the file's first size; LiteRT's XNNPACK delegate, its default on CPUs, takes others too.
"""

import sys

import litert_torch
import torch


class Named(torch.nn.Module):
    """A network whose outputs have names."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the outputs by name."""
        low, high = self.network(images)
        return {"low": low, "high": high}


def main(source: str, target: str) -> None:
    """Convert ``source``."""
    program = torch.export.load(source)
    (example,), _ = program.example_inputs
    network = Named(program.module())
    litert_torch.convert(network, sample_kwargs={"images": example}).export(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
