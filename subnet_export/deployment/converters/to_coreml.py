"""Converts a ``torch.export`` archive to a Core ML package and reads it back: ``python to_coreml.py SOURCE TARGET``.

The last line of its output describes the package in JSON: the ranges of the input's sizes, the types of input and
outputs, and the number of maps of each output.
"""

import json
import sys
from typing import Any

import coremltools
import numpy as np
import torch

LARGEST_SIDE = 2048
"""Largest width and height of an image, px."""


def main(source: str, target: str) -> None:
    """Convert ``source``."""
    program = torch.export.load(source)
    (example,), _ = program.example_inputs
    network = torch.jit.trace(program.module(), example, check_trace=False)
    default = int(example.shape[-1])
    sides = [coremltools.RangeDim(16, LARGEST_SIDE, default=default) for _ in range(2)]
    model = coremltools.convert(
        network,
        inputs=[coremltools.TensorType("images", coremltools.Shape((1, 3, *sides)), dtype=np.float32)],
        outputs=[coremltools.TensorType(name, dtype=np.float32) for name in ("low", "high")],
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.iOS16,
        compute_precision=coremltools.precision.FLOAT32,
        skip_model_load=True,
    )
    model.short_description = "LitePose: normalised RGB images to heatmaps and tags (model.json describes both)"
    model.save(target)
    print(json.dumps(description(target)))


def description(package: str) -> dict[str, Any]:
    """Return what a package says about its input and outputs."""
    spec = coremltools.models.MLModel(package, skip_model_load=True).get_spec()
    (source,) = spec.description.input
    array = source.type.multiArrayType
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    named = {value.name: value.type.tensorType for line in block.operations for value in line.outputs}
    channels = [named[name].dimensions[1].constant.size for name in block.outputs]
    return {
        "input": source.name,
        "ranges": [[size.lowerBound, size.upperBound] for size in array.shapeRange.sizeRanges],
        "types": [array.dataType, *(value.type.multiArrayType.dataType for value in spec.description.output)],
        "outputs": dict(zip([value.name for value in spec.description.output], channels, strict=True)),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
