"""The deployed network gives the network's maps without batch norm, from uint8 or normalised images."""

import copy

import pytest
import torch

from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.equivalence import comparison_images
from subnet_export.exported_model import ExportedModel
from supernet.litepose import normalisation_layers
from supernet.pose.geometry import normalise

Exported = tuple[ExportedModel, object]


def test_folding_leaves_the_function_and_the_original_unchanged(exported: Exported) -> None:
    network = exported[0].network
    before = copy.deepcopy(network.state_dict())
    folded = DeploymentNetwork(network, "float32").network
    assert not normalisation_layers(folded)
    assert len(normalisation_layers(network)) > 20
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    # In float64 both are the same function, except that the folded weights are rounded to float32.
    for raw_images in comparison_images(64):
        images = normalise(raw_images).double()
        with torch.no_grad():
            expected = copy.deepcopy(network).double()(images)
            outputs = folded.double()(images)
        for maps, folded_maps in zip(expected, outputs, strict=True):
            assert (maps - folded_maps).abs().max() < 1e-5 * maps.std()


def test_images_may_go_in_as_they_are(exported: Exported) -> None:
    network = exported[0].network
    for images in comparison_images(64):
        with torch.no_grad():
            expected = network(normalise(images))
            from_uint8 = DeploymentNetwork(network, "uint8")(images.permute(0, 2, 3, 1))
            from_float = DeploymentNetwork(network, "float32")(normalise(images))
        for maps, *deployed_maps in zip(expected, from_uint8, from_float, strict=True):
            for deployed in deployed_maps:
                torch.testing.assert_close(deployed, maps, rtol=0, atol=1e-4 * maps.std().item())


def test_a_network_in_training_mode_is_not_folded(exported: Exported) -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        DeploymentNetwork(copy.deepcopy(exported[0].network).train())
