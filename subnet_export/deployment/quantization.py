"""Static quantisation of a deployed network to 8-bit integers: what all formats share, and by NNCF for OpenVINO.

Source: NNCF's post-training quantisation with fast bias correction, with its defaults: one scale per tensor for
activations, one per channel for weights.
"""

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.runtimes import network_input, openvino_core

SENSITIVE = (r"network\.first\..*", r"network\.final_(refined|raw)\..*")
"""Name patterns of the layers that stay in float if quantising all layers costs too much AP: the first ones, which see
pixels, and the last ones, which give maps. In networks this narrow, rounding these costs most."""


def calibration_inputs(batches: Sequence[Tensor], takes: Input) -> list[npt.NDArray[np.generic]]:
    """Return each image of ``batches`` (B, 3, H, W) uint8 as a batch of one that a deployed network takes."""
    return [
        network_input(batch[index : index + 1], takes).contiguous().numpy()
        for batch in batches
        for index in range(len(batch))
    ]


def quantise(model: Any, batches: Sequence[Tensor], takes: Input, in_float: tuple[str, ...] = ()) -> Any:
    """Return a quantised copy of an OpenVINO model.

    Args:
        model: ``openvino.Model``.
        batches: Calibration images (B, 3, H, W) uint8, from which the range of every activation is taken.
        takes: Kind of input of the model.
        in_float: Name patterns of layers that stay in float.
    """
    os.environ["NNCF_CI"] = "1"  # turns off NNCF's telemetry
    import nncf
    from openvino._offline_transformations import apply_moc_transformations

    # Not nncf.set_log_level, which also changes the handlers that a program, or pytest, has attached to this logger.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    images = calibration_inputs(batches, takes)
    scope = nncf.IgnoredScope(patterns=list(in_float)) if in_float else None
    # Folds reshapes of weights, as OpenVINO's converter does. Without it, depthwise convolutions would run in float.
    model = model.clone()
    apply_moc_transformations(model, cf=False)
    openvino_core()  # must be loaded before NNCF's own cores, and outlive them
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(model, nncf.Dataset(images), subset_size=len(images), ignored_scope=scope)
