"""The training objective of a pose network: the targets of a batch and the loss terms of both outputs.

Source: LitePose (arXiv 2205.01271), section 5.1, after HigherHRNet (arXiv 1908.10357): heatmap loss on both outputs,
associative-embedding tags on the coarser one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.pose.training import targets
from supernet.pose.training.augmentation import Batch
from supernet.pose.training.losses import heatmap_loss, pixel_weights, tag_loss

LOW_STRIDE, HIGH_STRIDE = 4, 2
"""Input pixels per pixel of each output."""
SMALLEST_SIGMA = 0.8
"""Smallest standard deviation of a Gaussian that follows a person's size, in pixels of the output."""


@dataclass(frozen=True)
class Targets:
    """Training targets of one batch, on the batch's device.

    Attributes:
        low, high: Heatmaps (B, K, R/4, R/4) and (B, K, R/2, R/2).
        low_weights, high_weights: (B, 1 or K, H, W), weights of the pixels in the loss, 0 where it ignores them.
        tag_indices, tag_valid: (B, P, K), positions in the flattened tags of ``low``, and whether they are used.
    """

    low: Tensor
    high: Tensor
    low_weights: Tensor
    high_weights: Tensor
    tag_indices: Tensor
    tag_valid: Tensor


@dataclass(frozen=True)
class LossTerms:
    """Scalar loss terms; ``total`` is their weighted sum."""

    total: Tensor
    heatmap: Tensor
    push: Tensor
    pull: Tensor


@dataclass(frozen=True)
class PoseObjective:
    """Computes targets and losses for K keypoints.

    Attributes:
        num_keypoints: K.
        sigma: Standard deviation of the target Gaussians, in pixels of each output.
        push_weight, pull_weight: Weights of the tag losses relative to the heatmap loss. While all tags are equal, they
            spread only if their variance between people outweighs pull / push times that within people, so a small
            pull lets grouping start much sooner.
        placement: Where the target Gaussians are centred.
        foreground_weight: Additional weight of a heatmap's pixels at keypoints, see :func:`losses.pixel_weights`.
        sigma_per_size: If above 0, Gaussians follow the size of their person: this many sizes of the person, but at
            most ``sigma`` and at least ``SMALLEST_SIGMA`` pixels of the output. With K = 1 people have no size.
    """

    num_keypoints: int
    sigma: float = 2.0
    push_weight: float = 1e-3
    pull_weight: float = 1e-3
    placement: targets.Placement = "published"
    foreground_weight: float = 0.0
    sigma_per_size: float = 0.0

    def targets(self, batch: Batch) -> Targets:
        """Compute the targets of ``batch`` at its own resolution from its keypoint coordinates."""
        resolution = batch.images.shape[-1]
        sizes = targets.person_sizes(batch.people) if self.sigma_per_size and self.num_keypoints > 1 else None
        maps, scaled = [], []
        for stride in (LOW_STRIDE, HIGH_STRIDE):
            people = torch.cat([batch.people[..., :2] / stride, batch.people[..., 2:]], dim=-1)
            scaled.append(people)
            size = (resolution // stride, resolution // stride)
            sigmas = None
            if sizes is not None:
                sigmas = (self.sigma_per_size * sizes / stride).clamp(min(SMALLEST_SIGMA, self.sigma), self.sigma)
            maps.append(targets.heatmaps(people, size, self.sigma, self.placement, sigmas))
        indices, valid = targets.tag_indices(scaled[0], (resolution // LOW_STRIDE, resolution // LOW_STRIDE))
        low_weights = pixel_weights(maps[0], batch.mask[:, ::2, ::2], self.foreground_weight)
        high_weights = pixel_weights(maps[1], batch.mask, self.foreground_weight)
        return Targets(maps[0], maps[1], low_weights, high_weights, indices, valid)

    def loss(self, low: Tensor, high: Tensor, truth: Targets) -> LossTerms:
        """Return the loss terms of outputs ``low`` (B, 2K, H/4, W/4) and ``high`` (B, K, H/2, W/2)."""
        k = self.num_keypoints
        coarse = heatmap_loss(low[:, :k], truth.low, truth.low_weights)
        heatmap = (coarse + heatmap_loss(high, truth.high, truth.high_weights)).mean()
        push, pull = tag_loss(low[:, k:], truth.tag_indices, truth.tag_valid)
        return LossTerms(heatmap + self.push_weight * push + self.pull_weight * pull, heatmap, push, pull)

    def distillation(self, low: Tensor, high: Tensor, teacher: tuple[Tensor, Tensor], truth: Targets) -> Tensor:
        """Return the heatmap loss against a teacher's heatmaps on both outputs, with the same weights of pixels.

        Tags are not distilled: their values are arbitrary from image to image.
        """
        k = self.num_keypoints
        terms = heatmap_loss(low[:, :k], teacher[0][:, :k], truth.low_weights)
        return (terms + heatmap_loss(high, teacher[1], truth.high_weights)).mean()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return ``batch`` on ``device``, with its images in channels-last order."""
    images = batch.images.to(device, non_blocking=True, memory_format=torch.channels_last)
    people, mask = batch.people.to(device, non_blocking=True), batch.mask.to(device, non_blocking=True)
    return Batch(images, people, mask, batch.image_ids)
