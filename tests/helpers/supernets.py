"""A supernet of random weights whose maps, unlike those of a new one, are not near zero."""

import torch

from supernet.litepose import normalisation_layers
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet


def lively_supernet(space: SearchSpace, num_keypoints: int) -> SuperNet:
    """Return the supernet of a space, always with the same weights: files of a stored release hold them too."""
    torch.manual_seed(0)
    supernet = SuperNet(space, num_keypoints)
    with torch.no_grad():
        for norm in normalisation_layers(supernet):
            norm.weight.uniform_(0.5, 1.5)
        for name, weight in supernet.network.named_parameters():
            if name.endswith("conv.3.weight"):
                weight.normal_(std=0.1)
    return supernet
