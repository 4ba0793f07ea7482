"""A supernet that keeps its trained backbone and gets a random head."""

import torch

from supernet.weight_sharing import SuperNet, is_backbone


def with_new_head(supernet: SuperNet, seed: int) -> None:
    """Give ``supernet`` the head of a new one, in place."""
    torch.manual_seed(seed)
    new = SuperNet(supernet.space, supernet.network.num_keypoints).state_dict()
    backbone = {name: value for name, value in supernet.state_dict().items() if is_backbone(name)}
    supernet.load_state_dict({**new, **backbone})
