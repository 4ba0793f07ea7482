"""Subnets without weights: a forward pass runs one with slices of the supernet as its weights."""

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
_MAX_NETWORKS, _MAX_PARTS = 128, 4096


class SubnetTemplates:
    """Networks without weights by arch, assembled from cached parts.

    Almost every sampled arch is new, but its parts rarely are. Networks share cached parts, so only one network may be
    in use at a time. Copies of a supernet share its templates.

    Args:
        space: The search space of the archs.
        num_keypoints: K.
        adapt: Called once with every new part of a training network, to change it in place.
    """

    def __init__(
        self, space: SearchSpace, num_keypoints: int, adapt: Callable[[nn.Module], None] | None = None
    ) -> None:
        self.space, self.num_keypoints, self._adapt = space, num_keypoints, adapt
        self._networks: OrderedDict[Hashable, LitePose] = OrderedDict()
        self._parts: OrderedDict[Hashable, nn.Module] = OrderedDict()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SubnetTemplates":
        return self

    def __call__(self, arch: Arch, training: bool) -> LitePose:
        """Return the network of ``arch``; a training network records no batch-norm statistics.

        Raises:
            UserError: ``arch`` is outside the space.
        """

        def make() -> LitePose:
            self.space.check(arch)
            return LitePose(arch, self.num_keypoints, partial(self._part, training)).train(training)

        return _cached(self._networks, _MAX_NETWORKS, (arch, training), make)

    def _part(self, training: bool, place: str, make: Callable[..., nn.Module], *sizes: int) -> nn.Module:
        """Return the part at ``place`` of a network; places do not share parts, because each has its own weights."""
        return _cached(
            self._parts, _MAX_PARTS, (training, place, sizes), partial(self._new_part, training, make, sizes)
        )

    def _new_part(self, training: bool, make: Callable[..., nn.Module], sizes: tuple[int, ...]) -> nn.Module:
        with torch.device("meta"):
            part = make(*sizes)
        if training:
            for norm in normalisation_layers(part):
                norm.track_running_stats = False
                norm.running_mean = norm.running_var = norm.num_batches_tracked = None
            if self._adapt is not None:
                self._adapt(part)
        return part


def _cached(cache: OrderedDict[Hashable, Value], size: int, key: Hashable, make: Callable[[], Value]) -> Value:
    """Return the value at ``key``, made if missing; beyond ``size`` the least recently used entry is evicted."""
    if key not in cache:
        cache[key] = make()
        if len(cache) > size:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]
