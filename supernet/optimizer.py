"""Optimisation of shared weights: rates, the averaged weights, and steps that leave untouched weights alone."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def learning_rate(progress: float, peak: float, warmup: float = 0.05, floor: float = 0.01) -> float:
    """Return the rate at ``progress`` (0..1) of a phase: linear warm-up, then a cosine down to ``floor`` x peak."""
    if progress < warmup:
        return peak * (0.1 + 0.9 * progress / warmup)
    done = (progress - warmup) / (1 - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


class WeightAverage:
    """Exponential moving average of named weights; early on the window grows with the number of updates.

    Args:
        weights: Named parameters to follow.
        decay: Decay per update once the window is full.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.decay, self.num_updates = decay, 0
        self.average = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Move the average towards ``weights``."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        torch._foreach_lerp_(list(self.average.values()), [weights[name].detach() for name in self.average], 1 - decay)


class TouchedAdam:
    """Adam whose step moves only weights that got a gradient in it.

    In a weight-shared network a step trains slices. Plain Adam would go on moving everything else by stale momentum,
    and a weight decay would shrink it; here a weight whose gradient is exactly zero keeps its value and its moments.

    Args:
        parameters: Trainable weights, float32.
        clip_norm: Largest norm of the whole gradient.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], clip_norm: float) -> None:
        self.parameters, self.clip_norm = list(parameters), clip_norm
        self.adam = torch.optim.Adam(self.parameters, lr=1.0, foreach=True)

    def step(self, rate: float) -> Tensor:
        """Clip, apply one update at learning rate ``rate``, and forget the gradients; returns the gradient's norm."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip_norm, foreach=True)
        for group in self.adam.param_groups:
            group["lr"] = rate
        kept: list[tuple[Tensor, Tensor, Tensor]] = []
        for parameter in self.parameters:
            if parameter.grad is None:
                continue
            untouched = parameter.grad == 0
            state = self.adam.state[parameter]
            for tensor in (parameter.data, state.get("exp_avg"), state.get("exp_avg_sq")):
                if tensor is not None:
                    kept.append((tensor, untouched, tensor.clone()))
        self.adam.step()
        for tensor, untouched, old in kept:
            torch.where(untouched, old, tensor, out=tensor)
        self.adam.zero_grad(set_to_none=True)
        return norm
