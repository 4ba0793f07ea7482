"""The deployed network gives the network's maps without batch norm, from images as they are or normalised ones."""

import copy

import pytest
import torch

from subnet_export.deployment.deployed_network import DeploymentNetwork, folded
from subnet_export.deployment.equivalence import made_up_images
from subnet_export.exported_model import ExportedModel
from supernet.litepose import normalisation_layers
from supernet.pose.geometry import normalise

Exported = tuple[ExportedModel, object]


def test_folding_leaves_the_function_and_the_original_unchanged(exported: Exported) -> None:
    network = exported[0].network
    before = copy.deepcopy(network.state_dict())
    result = folded(network)
    assert not normalisation_layers(result)
    assert len(normalisation_layers(network)) > 20
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    # In float64 both are the same function, but for the rounding of the folded weights to float32.
    for raw_images in made_up_images(64):
        images = normalise(raw_images).double()
        with torch.no_grad():
            expected = copy.deepcopy(network).double()(images)
            found = result.double()(images)
        for own, other in zip(expected, found, strict=True):
            assert (own - other).abs().max() < 1e-5 * own.std()


def test_images_may_go_in_as_they_are(exported: Exported) -> None:
    network = exported[0].network
    for images in made_up_images(64):
        with torch.no_grad():
            expected = network(normalise(images))
            whole = DeploymentNetwork(network, "uint8")(images.permute(0, 2, 3, 1))
            bare = DeploymentNetwork(network, "float32")(normalise(images))
        for own, *others in zip(expected, whole, bare, strict=True):
            for other in others:
                torch.testing.assert_close(other, own, rtol=0, atol=1e-4 * own.std().item())


def test_a_network_in_training_mode_is_not_folded(exported: Exported) -> None:
    with pytest.raises(ValueError, match="training mode"):
        folded(copy.deepcopy(exported[0].network).train())
