"""Quantises a LiteRT file to 8-bit integers: ``python to_litert_int8.py SOURCE TARGET IMAGES [PATTERN ...]``.

IMAGES is a file of arrays (:func:`arrays`), inputs of the network, which show the range of every activation. Layers
whose names match a PATTERN stay in float.

Weights get one scale per channel, activations one per tensor, from the least and the largest value on all images.
Source: AI Edge Quantizer's static quantisation. Its own moving average of ranges forgets all but the last 20 images.
"""

import json
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator
from ai_edge_litert.tools.flatbuffer_utils import read_model
from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
from ai_edge_quantizer.utils import qsv_utils

SIGNATURE, INPUT = "serving_default", "images"
MOST_TAPS = 25
"""Larger depthwise kernels stay in float. XNNPACK has none in 8 bits for them, on x86 or Arm (``dwconv-config.c``), and
takes several times as long as in float."""
LEAST_RANGE = 1e-2
"""Activations get at least this range: a branch that training has switched off gives zeros, whose scale would be 0."""
SUMMAND_SHARE = 1 / 256
"""Summands get at least this share of their sum's range. XNNPACK refuses scales that differ by more than 1,024."""


class Network:
    """A LiteRT file in float, whose operators are in the order of execution and name their weights after layers."""

    def __init__(self, path: str) -> None:
        model = read_model(path)
        self.graph = model.subgraphs[0]
        self._buffers, self._codes = model.buffers, model.operatorCodes

    def name(self, tensor: int) -> str:
        """Return the name of a tensor."""
        return str(self.graph.tensors[tensor].name.decode())

    def is_constant(self, tensor: int) -> bool:
        """Whether the file holds the values of a tensor."""
        data = self._buffers[self.graph.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def layer(self, operator: Any) -> str | None:
        """Return the name that patterns have for the layer of an operator; None if it has no weights."""
        names = (self.name(tensor) for tensor in operator.inputs)
        return next((f"network.{name.removesuffix('.weight')}" for name in names if name.endswith(".weight")), None)

    def is_slow(self, operator: Any) -> bool:
        """Whether an operator is slower in integers than in float."""
        if not self._is(operator, BuiltinOperator.DEPTHWISE_CONV_2D):
            return False
        _, height, width, _ = self.graph.tensors[operator.inputs[1]].shape
        return bool(height * width > MOST_TAPS)

    def is_sum(self, operator: Any) -> bool:
        """Whether an operator adds."""
        return self._is(operator, BuiltinOperator.ADD)

    def _is(self, operator: Any, kind: int) -> bool:
        return bool(self._codes[operator.opcodeIndex].builtinCode == kind)


def arrays(path: str) -> list[Any]:
    """Read a file of arrays: a line of JSON with the type and shape of each, then their values in order."""
    with open(path, "rb") as file:
        described = json.loads(file.readline())
        return [
            np.frombuffer(file.read(np.dtype(kind).itemsize * math.prod(shape)), kind).reshape(shape)
            for kind, shape in described
        ]


def outputs_in_float(network: Network, patterns: Sequence[str]) -> list[str]:
    """Return the names of the outputs of all operators that stay in float.

    An operator without weights stays in float if what it computes from is in float: integers would cost accuracy and
    save next to nothing. This holds for normalisation, and after layers that stay in float.
    """
    in_float, names = set(network.graph.inputs), []
    for operator in network.graph.operators:
        layer = network.layer(operator)
        if layer is None:
            stays = all(tensor in in_float or network.is_constant(tensor) for tensor in operator.inputs)
        else:
            stays = network.is_slow(operator) or any(re.match(pattern, layer) for pattern in patterns)
        if stays:
            in_float.update(operator.outputs)
            names += [network.name(tensor) for tensor in operator.outputs]
    return names


def widen(ranges: dict[str, Any], network: Network) -> None:
    """Widen ranges that are too narrow for a scale."""

    def at_least(name: str, width: Any) -> None:
        if name in ranges:  # else it stays in float
            ranges[name]["max"] = np.maximum(ranges[name]["max"], ranges[name]["min"] + width).astype(np.float32)

    for name in ranges:
        at_least(name, LEAST_RANGE)
    for operator in network.graph.operators:
        total = ranges.get(network.name(operator.outputs[0]))
        if total is not None and network.is_sum(operator):
            for tensor in operator.inputs:
                at_least(network.name(tensor), (total["max"] - total["min"]) * SUMMAND_SHARE)


def main(source: str, target: str, images: str, *patterns: str) -> None:
    """Quantise ``source``."""
    network, operations = Network(source), qtyping.TFLOperationName
    recipe = recipe_manager.RecipeManager()
    recipe.add_static_config(".*", operations.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    for operation in (operations.INPUT, operations.OUTPUT):
        recipe.add_quantization_config(".*", operation, algorithm_key="no_quantize")
    for name in outputs_in_float(network, patterns):
        recipe.add_quantization_config(f"^{re.escape(name)};$", operations.ALL_SUPPORTED, algorithm_key="no_quantize")
    observed = calibrator.Calibrator(source, num_threads=os.cpu_count() or 1, qsv_update_func=qsv_utils.min_max_update)
    observed.calibrate({SIGNATURE: [{INPUT: image} for image in arrays(images)]}, recipe)
    ranges = observed.get_model_qsvs()
    widen(ranges, network)
    quantising = quantizer.Quantizer(source, recipe.get_quantization_recipe())
    quantising.quantize(ranges, target, enable_progress_report=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
