"""Every runtime runs every kind of workload, and what it does not offer is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from search.lut.runtimes import PRECISIONS, open_runtime, runtime_of
from search.lut.workloads import NoOp
from subnet_export.deployment.formats import EXECUTORCH, missing
from subnet_export.deployment.runtimes import bf16_is_native
from supernet.compute.machine import processor
from supernet.costs.latency_blocks import Bottleneck, Deconv, blocks_of, kind_of
from supernet.errors import UserError
from tests.helpers.latency_tables import NUM_KEYPOINTS, SETTINGS, SPACE, fake_table

ARCH = SPACE.sample(np.random.default_rng(3))
CPU = torch.device("cpu")
NEEDS_EXECUTORCH = pytest.mark.skipif(bool(missing(EXECUTORCH.readers)), reason="executorch is not installed")
RUNTIMES = [pytest.param(name, marks=NEEDS_EXECUTORCH) if name == "executorch" else name for name in PRECISIONS]


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_runtime_runs_every_kind_of_block(name: str) -> None:
    runtime = open_runtime(name, "f32", 1, 2, NUM_KEYPOINTS, CPU)
    assert (runtime.settings.runtime, runtime.settings.threads, runtime.settings.batch) == (name, 1, 2)
    for workload in (NoOp(), ARCH, *{kind_of(block): block for block in blocks_of(ARCH, NUM_KEYPOINTS)}.values()):
        run = runtime.open(workload)
        run()
        run()


@pytest.mark.parametrize("name", RUNTIMES)
def test_maps_as_small_as_a_pixel_has_colours_are_no_images(name: str) -> None:
    runtime = open_runtime(name, "f32", 1, 1, NUM_KEYPOINTS, CPU)
    runtime.open(Bottleneck(8, 8, 1, 3, 3, 3))()
    runtime.open(Deconv(8, 8, 8, 3))()


@pytest.mark.gpu
def test_a_gpu_runs_blocks_in_half_precision() -> None:
    runtime = open_runtime("torch", "f16", 1, 1, NUM_KEYPOINTS, torch.device("cuda"))
    for workload in (NoOp(), ARCH, *blocks_of(ARCH, NUM_KEYPOINTS)):
        runtime.open(workload)()
    assert runtime.settings.device == torch.cuda.get_device_name()


def test_a_table_names_the_device_that_was_measured() -> None:
    for device, name in (("cpu", processor()), ("meta", f"{processor()} (meta)")):
        runtime = open_runtime("torch", "f32", 1, 1, NUM_KEYPOINTS, torch.device(device))
        assert runtime.settings.device == name


def test_what_a_runtime_does_not_offer_is_refused() -> None:
    for arguments, named in (
        (("tensorrt", "f32", CPU), "there is no runtime 'tensorrt'; choose among onnxruntime, openvino"),
        (("ncnn", "bf16", CPU), "ncnn computes in f32 here, not in bf16"),
        (("onnxruntime", "bf16", CPU), "onnxruntime computes in f32 here, not in bf16"),
        (("openvino", "f32", torch.device("cuda")), "openvino runs on the CPU here, not on cuda"),
    ):
        name, precision, device = arguments
        with pytest.raises(UserError, match=named):
            open_runtime(name, precision, 1, 1, NUM_KEYPOINTS, device)
    if not bf16_is_native():
        with pytest.raises(UserError, match="does not compute in bf16"):
            open_runtime("openvino", "bf16", 1, 1, NUM_KEYPOINTS, CPU)


@pytest.mark.parametrize(("runtime", "precision"), [("ncnn", "f16"), ("of another release", "f32")])
def test_a_table_of_another_device_needs_none_of_its_runtimes_here(runtime: str, precision: str) -> None:
    settings = replace(SETTINGS, runtime=runtime, precision=precision, device="a phone")
    with pytest.raises(UserError, match=rf"settings\.device .*'a phone', here it is '{re.escape(processor())}'"):
        runtime_of(fake_table(settings=settings))
