"""A supernet of random weights whose maps are not near zero, as those of a fresh one are."""

import torch

from supernet.litepose import normalisation_layers
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet


def lively_supernet(space: SearchSpace, num_keypoints: int) -> SuperNet:
    """Return that of a space, always the same: a stored release holds such weights, so what is drawn stays as it is."""
    torch.manual_seed(0)
    supernet = SuperNet(space, num_keypoints)
    with torch.no_grad():
        for norm in normalisation_layers(supernet):
            norm.weight.uniform_(0.5, 1.5)
        for name, weight in supernet.network.named_parameters():
            if name.endswith("conv.3.weight"):
                weight.normal_(std=0.1)
    return supernet
