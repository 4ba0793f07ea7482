"""What is measured is the deployed network: the same function, cut into blocks without remainder."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from search.cost import macs, params
from search.lut.onnx_blocks import graph_of, random_weights
from search.lut.runtimes import PRECISIONS, open_engine
from search.lut.torch_blocks import torch_block
from search.lut.workloads import NoOp
from subnet_export.benchmarking.run import random_network
from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.runtimes import bf16_is_native, onnx_session
from supernet.arch import Arch
from supernet.costs.latency_blocks import Bottleneck, Deconv, blocks_of, kind_of
from supernet.errors import UserError
from supernet.litepose import LitePose, normalisation_layers
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE

ARCH = SPACE.sample(np.random.default_rng(3))
CPU = torch.device("cpu")


def test_the_graph_of_a_network_computes_what_the_deployed_one_does() -> None:
    deployed = DeploymentNetwork(random_network(ARCH, NUM_KEYPOINTS))
    state = deployed.network.state_dict()

    def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
        found: np.ndarray = state.pop(name).numpy()
        assert found.shape == shape, name
        return found

    model = graph_of(ARCH, NUM_KEYPOINTS, weights)
    assert not state  # every weight has its place
    side = ARCH.resolution
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    found = onnx_session(model.SerializeToString(), 1).run(["low", "high"], {"images": images})
    for maps, expected in zip(found, deployed(torch.from_numpy(images)), strict=True):
        np.testing.assert_allclose(maps, expected.numpy(), rtol=1e-4, atol=1e-5)


def num_weights(graphs: list[object]) -> int:
    from onnx import numpy_helper

    tensors = [tensor for graph in graphs for tensor in graph.graph.initializer]  # type: ignore[attr-defined]
    return sum(numpy_helper.to_array(tensor).size for tensor in tensors if not tensor.name.startswith("constant"))


@pytest.mark.parametrize("arch", [ARCH, SPACE.largest()], ids=["random", "largest"])
def test_blocks_make_up_the_network_without_remainder(arch: Arch) -> None:
    blocks, weights = blocks_of(arch, NUM_KEYPOINTS), random_weights()
    whole = num_weights([graph_of(arch, NUM_KEYPOINTS, weights)])
    assert num_weights([graph_of(block, NUM_KEYPOINTS, weights) for block in blocks]) == whole
    # Folding leaves one number of each pair that batch norm has.
    norms = normalisation_layers(LitePose(arch, NUM_KEYPOINTS))
    assert whole == params(arch, NUM_KEYPOINTS) - sum(norm.num_features for norm in norms)
    with FlopCounterMode(display=False) as counter:
        for block in blocks:
            module, shapes = torch_block(block, NUM_KEYPOINTS, 1)
            module(*(torch.zeros(shape) for shape in shapes))
    assert counter.get_total_flops() // 2 == macs(arch, NUM_KEYPOINTS)


@pytest.mark.parametrize("runtime", PRECISIONS)
def test_every_runtime_runs_every_kind_of_block(runtime: str) -> None:
    engine = open_engine(runtime, "f32", 1, 2, NUM_KEYPOINTS, CPU)
    assert (engine.settings.runtime, engine.settings.threads, engine.settings.batch) == (runtime, 1, 2)
    for subject in (NoOp(), ARCH, *{kind_of(block): block for block in blocks_of(ARCH, NUM_KEYPOINTS)}.values()):
        run = engine.open(subject)
        run()
        run()


@pytest.mark.parametrize("runtime", PRECISIONS)
def test_maps_as_small_as_a_pixel_has_colours_are_no_images(runtime: str) -> None:
    engine = open_engine(runtime, "f32", 1, 1, NUM_KEYPOINTS, CPU)
    engine.open(Bottleneck(8, 8, 1, 3, 3, 3))()
    engine.open(Deconv(8, 8, 8, 3))()


@pytest.mark.gpu
def test_a_gpu_runs_blocks_in_half_precision() -> None:
    engine = open_engine("torch", "f16", 1, 1, NUM_KEYPOINTS, torch.device("cuda"))
    for subject in (NoOp(), ARCH, *blocks_of(ARCH, NUM_KEYPOINTS)):
        engine.open(subject)()
    assert engine.settings.device == torch.cuda.get_device_name()


def test_what_a_runtime_does_not_offer_is_refused() -> None:
    for arguments, named in (
        (("tensorrt", "f32", CPU), "there is no runtime 'tensorrt'; choose among onnxruntime, openvino, torch"),
        (("onnxruntime", "bf16", CPU), "onnxruntime computes in f32 here, not in bf16"),
        (("openvino", "f32", torch.device("cuda")), "openvino runs on the CPU here, not on cuda"),
    ):
        runtime, precision, device = arguments
        with pytest.raises(UserError, match=named):
            open_engine(runtime, precision, 1, 1, NUM_KEYPOINTS, device)
    if not bf16_is_native():
        with pytest.raises(UserError, match="does not compute in bf16"):
            open_engine("openvino", "bf16", 1, 1, NUM_KEYPOINTS, CPU)
