"""Networks of subnets without weights, into which slices of a supernet are put for each pass."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from supernet.arch import Arch
from supernet.litepose import LitePose, normalisation_layers
from supernet.space import SearchSpace

Value = TypeVar("Value")
_NETWORKS_KEPT, _PARTS_KEPT = 128, 4096


class SubnetTemplates:
    """Weightless networks by arch, put together from parts that are kept.

    Almost every sampled arch is new, its parts hardly ever are. Networks share them, so that only one network may be
    in use at a time. Copies of a supernet share its templates.

    Args:
        space: Of the archs.
        num_keypoints: K.

    Attributes:
        adapt: Called once with every part of a network that is trained, to change it in place.
    """

    def __init__(self, space: SearchSpace, num_keypoints: int) -> None:
        self.space, self.num_keypoints = space, num_keypoints
        self.adapt: Callable[[nn.Module], None] | None = None
        self._networks: OrderedDict[Hashable, LitePose] = OrderedDict()
        self._parts: OrderedDict[Hashable, nn.Module] = OrderedDict()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SubnetTemplates":
        return self

    def __call__(self, arch: Arch, training: bool) -> LitePose:
        """Return the network of ``arch``; one for training records no statistics.

        Raises:
            UserError: ``arch`` is outside the space.
        """

        def make() -> LitePose:
            self.space.check(arch)
            return LitePose(arch, self.num_keypoints, partial(self._part, training)).train(training)

        return _kept(self._networks, _NETWORKS_KEPT, (arch, training), make)

    def _part(self, training: bool, place: str, make: Callable[..., nn.Module], *sizes: int) -> nn.Module:
        """Return a part for ``place``; equal ones at other places are others, as each has weights of its own."""
        return _kept(self._parts, _PARTS_KEPT, (training, place, sizes), partial(self._new_part, training, make, sizes))

    def _new_part(self, training: bool, make: Callable[..., nn.Module], sizes: tuple[int, ...]) -> nn.Module:
        with torch.device("meta"):
            part = make(*sizes)
        if training:
            for norm in normalisation_layers(part):
                norm.track_running_stats = False
                norm.running_mean = norm.running_var = norm.num_batches_tracked = None
            if self.adapt is not None:
                self.adapt(part)
        return part


def _kept(cache: OrderedDict[Hashable, Value], size: int, key: Hashable, make: Callable[[], Value]) -> Value:
    """Return the value at ``key``, made if it is not there; of too many, the one not asked for longest goes."""
    if key not in cache:
        cache[key] = make()
        if len(cache) > size:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]
