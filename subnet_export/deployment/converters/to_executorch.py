"""Converts a ``torch.export`` archive to an ExecuTorch file for XNNPACK: ``python to_executorch.py SOURCE TARGET MAX``.

The archive's network takes one image of a single size, the file's any sides in multiples of 16 up to ``MAX`` pixels.
"""

import sys

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower


def main(source: str, target: str, max_side: str) -> None:
    """Convert ``source``."""
    program = torch.export.load(source)
    example, _ = program.example_inputs
    height, width = (torch.export.Dim(name, min=1, max=int(max_side) // 16) for name in ("height16", "width16"))
    # Lowering fails for the symbols of a program that was saved with open sizes.
    program = torch.export.export(
        program.module(check_guards=False), example, dynamic_shapes=({2: 16 * height, 3: 16 * width},)
    )
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    lowered.to_executorch().save(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
