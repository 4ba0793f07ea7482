"""A deployed network in 8-bit integers: static quantisation by NNCF.

Source: post-training quantisation with fast bias correction, as NNCF offers it; its defaults are kept (activations in
one scale per tensor, weights in one per channel).
"""

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.runtimes import network_input, openvino_core

SENSITIVE = (r"network\.first\..*", r"network\.final_(refined|raw)\..*")
"""Layers left in float where quantising all of them costs too much AP: those that see pixels and those that give maps;
in networks this narrow their rounding is what shows most."""


def quantised(model: Any, batches: Sequence[Tensor], takes: Input, in_float: tuple[str, ...] = ()) -> Any:
    """Return a quantised copy of an OpenVINO model.

    Args:
        model: ``openvino.Model``.
        batches: Images (B, 3, H, W) uint8 that tell the range of every activation.
        takes: What goes into the model.
        in_float: Patterns of the names of layers that are left in float.
    """
    os.environ["NNCF_CI"] = "1"  # the library then reports nothing about its use to its makers
    import nncf
    from openvino._offline_transformations import apply_moc_transformations

    nncf.set_log_level(logging.ERROR)
    images = [
        network_input(batch[index : index + 1], takes).contiguous().numpy()
        for batch in batches
        for index in range(len(batch))
    ]
    scope = nncf.IgnoredScope(patterns=list(in_float)) if in_float else None
    # Folds reshapes of weights, as OpenVINO's converter does; without it depthwise convolutions would run in float.
    model = model.clone()
    apply_moc_transformations(model, cf=False)
    openvino_core()  # loaded before, and outliving, those that NNCF makes
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(model, nncf.Dataset(images), subset_size=len(images), ignored_scope=scope)
