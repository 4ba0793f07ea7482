"""Optimisation of shared weights: rates, the averaged weights, and steps that leave untouched weights alone."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def learning_rate(progress: float, peak: float, warmup: float = 0.05, floor: float = 0.01) -> float:
    """Return the rate at ``progress`` (0..1) of a phase: linear warm-up, then a cosine down to ``floor`` x peak."""
    if progress < warmup:
        return peak * (0.1 + 0.9 * progress / warmup)
    done = (progress - warmup) / (1 - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


class ExponentialMovingAverage:
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


class MaskedAdam:
    """Adam whose step moves only weights that got a gradient in it.

    In a weight-shared network a step trains slices. Plain Adam would go on moving everything else by stale momentum,
    and a weight decay would shrink it; here a weight whose gradient is exactly zero keeps its value and its moments.

    All moments lie in two flat tensors and a step works on one flat gradient: a network of many small layers would
    otherwise spend longer on starting the thousands of operations than on computing them.

    Args:
        parameters: Trainable weights, float32, all on one device.
        clip_norm: Largest norm of the whole gradient.
        betas, epsilon: As in Adam (arXiv 1412.6980), algorithm 1.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        clip_norm: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.parameters, self.clip_norm, self.betas, self.epsilon = list(parameters), clip_norm, betas, epsilon
        self.num_steps = 0
        first = torch.cat([parameter.detach().flatten() for parameter in self.parameters])
        self.moments = (torch.zeros_like(first), torch.zeros_like(first))

    @torch.no_grad()
    def step(self, rate: float, join: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Clip, apply one update and forget the gradients; if their norm is not finite, weights and moments stay.

        Args:
            rate: Learning rate.
            join: Makes the whole, flat gradient that of all processes.

        Returns:
            The gradient's norm before clipping.
        """
        gradient = torch.cat([_gradient(parameter).flatten() for parameter in self.parameters])
        if join is not None:
            gradient = join(gradient)
        norm: Tensor = torch.linalg.vector_norm(gradient)
        # A gradient that is not finite moves nothing; whoever reads the norm later finds sound weights.
        scale = (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
        gradient = torch.where(torch.isfinite(norm), gradient * scale, 0.0)
        self.num_steps += 1
        touched = (gradient != 0).to(gradient.dtype)
        mean, square = self.moments
        mean.lerp_(gradient, (1 - self.betas[0]) * touched)
        square.lerp_(gradient.square(), (1 - self.betas[1]) * touched)
        corrections = [1 - beta**self.num_steps for beta in self.betas]
        scale = (square / corrections[1]).sqrt_().add_(self.epsilon)
        change = (mean / scale).mul_(touched).mul_(-rate / corrections[0])
        torch._foreach_add_([parameter.data for parameter in self.parameters], self._in_shape(change))
        for parameter in self.parameters:
            parameter.grad = None
        return norm

    def moments_by_name(self, names: Iterable[str]) -> list[dict[str, Tensor]]:
        """Return the first and the second moments under the ``names`` of the parameters, as views of their shapes."""
        names = list(names)
        return [dict(zip(names, self._in_shape(moment), strict=True)) for moment in self.moments]

    def state(self) -> dict[str, Any]:
        """Return what decides the steps to come: the number of steps so far and both moments, in parameter order."""
        return {"num_steps": self.num_steps, "moments": list(self.moments)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self.num_steps = state["num_steps"]
        for moment, value in zip(self.moments, state["moments"], strict=True):
            moment.copy_(value)

    def _in_shape(self, flat: Tensor) -> list[Tensor]:
        """Return views of ``flat``, one in the shape of each parameter."""
        parts = torch.split(flat, [parameter.numel() for parameter in self.parameters])
        return [part.view(parameter.shape) for part, parameter in zip(parts, self.parameters, strict=True)]


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
