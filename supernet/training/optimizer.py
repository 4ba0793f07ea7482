"""Learning rates, averaged weights, and Adam: plain, or masked for weights that subnets share."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn


def learning_rate(progress: float, peak: float, warmup: float = 0.05, floor: float = 0.01) -> float:
    """Return the rate at ``progress`` (0..1) of a phase: linear warm-up, then a cosine down to ``floor`` x peak."""
    if progress < warmup:
        return peak * (0.1 + 0.9 * progress / warmup)
    cosine_progress = (progress - warmup) / (1 - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(cosine_progress, 1.0))))


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


class Optimizer(Protocol):
    """Updates weights from their gradients, which it clips to a largest norm."""

    def step(self, rate: float) -> Tensor:
        """Apply one update with learning rate ``rate``, clear the gradients, and return their norm before clipping."""
        ...

    def state(self) -> dict[str, Any]:
        """Return everything that later steps depend on."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        ...


class ClippedAdam:
    """PyTorch's Adam, with gradient clipping, for a network whose every weight is trained in every step.

    Args:
        parameters: Trainable weights.
        clip_norm: Largest norm of the whole gradient.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], clip_norm: float) -> None:
        self.parameters, self.clip_norm = list(parameters), clip_norm
        self._adam = torch.optim.Adam(self.parameters, foreach=True)

    def step(self, rate: float) -> Tensor:
        """See :meth:`Optimizer.step`."""
        norm: Tensor = nn.utils.clip_grad_norm_(self.parameters, self.clip_norm, foreach=True)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Any]:
        """Return the state dict of PyTorch's optimizer."""
        return self._adam.state_dict()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self._adam.load_state_dict(dict(state))


class MaskedAdam:
    """Adam whose step moves only weights that got a gradient in it.

    In a weight-shared network a step trains slices. Plain Adam would keep moving everything else by stale momentum,
    and a weight decay would shrink it; here a weight whose gradient is exactly zero keeps its value and its moments.

    The bias correction counts the steps of the optimizer, as in PyTorch's ``SparseAdam``, and not those of each weight.
    A weight whose first gradient comes late, such as a kernel transform after a phase of the largest subnet, takes
    steps of up to 6.6 times the learning rate at first, which approach it over some thousand gradients.

    All moments lie in two flat tensors and a step works on one flat gradient: in a network of many small layers,
    launching thousands of operations would otherwise take longer than computing them.

    Args:
        parameters: Trainable weights, float32, all on one device.
        clip_norm: Largest norm of the whole gradient.
        reduce: Averages the flat gradient over the processes that train together.
        rate_factors: The learning rate of each parameter as a multiple of the step's; None: 1 for all.
        betas, epsilon: As in Adam (arXiv 1412.6980), algorithm 1.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        clip_norm: float,
        reduce: Callable[[Tensor], Tensor] | None = None,
        rate_factors: Iterable[float] | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.parameters, self.clip_norm, self.betas, self.epsilon = list(parameters), clip_norm, betas, epsilon
        self._reduce = reduce
        self.num_steps = 0
        first = torch.cat([parameter.detach().flatten() for parameter in self.parameters])
        self.moments = (torch.zeros_like(first), torch.zeros_like(first))
        self._rate_factors: Tensor | None = None
        if rate_factors is not None:
            sizes = torch.tensor([parameter.numel() for parameter in self.parameters])
            self._rate_factors = torch.tensor(list(rate_factors)).repeat_interleave(sizes).to(first)

    @torch.no_grad()
    def step(self, rate: float) -> Tensor:
        """See :meth:`Optimizer.step`; if the norm is not finite, weights and moments stay as they are."""
        gradient = torch.cat([_gradient(parameter).flatten() for parameter in self.parameters])
        if self._reduce is not None:
            gradient = self._reduce(gradient)
        norm: Tensor = torch.linalg.vector_norm(gradient)
        # A gradient that is not finite moves nothing: the norm is checked later, when it is read from the device.
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
        if self._rate_factors is not None:
            change *= self._rate_factors
        torch._foreach_add_([parameter.data for parameter in self.parameters], self._in_shape(change))
        for parameter in self.parameters:
            parameter.grad = None
        return norm

    def moments_by_name(self, names: Iterable[str]) -> list[dict[str, Tensor]]:
        """Return the first and the second moments under the ``names`` of the parameters, as views of their shapes."""
        names = list(names)
        return [dict(zip(names, self._in_shape(moment), strict=True)) for moment in self.moments]

    def state(self) -> dict[str, Any]:
        """Return the number of steps so far and both moments, in parameter order."""
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
