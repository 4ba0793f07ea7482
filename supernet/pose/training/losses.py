"""Losses of bottom-up pose estimation: heatmaps, associative-embedding tags, and heatmap distillation.

Source: Associative Embedding, arXiv 1611.05424, section 3.2, in the 'exp' form of HigherHRNet and LitePose.
All are computed in float32, whatever the type of the network's output.
"""

import torch
from torch import Tensor


def heatmap_loss(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean weighted squared error of each image's heatmaps over all keypoints and pixels.

    Args:
        predicted: (B, K, H, W).
        target: (B, K, H, W); of a teacher: it receives no gradient.
        weights: (B, 1 or K, H, W), bool or number; masked pixels (0) contribute no error but still count in the mean.

    Returns:
        (B,) float32.
    """
    squared = (predicted.float() - target.detach().float()).square()
    return (squared * weights.float()).mean(dim=(1, 2, 3))


def pixel_weights(target: Tensor, mask: Tensor, foreground_weight: float) -> Tensor:
    """Weights of the pixels of :func:`heatmap_loss`: 1 in the background, 1 + ``foreground_weight`` at a keypoint.

    A keypoint's Gaussian covers about one pixel in a hundred of its map, so that with equal weights the loss of a
    network that predicts 0 everywhere is already small.

    Args:
        target: (B, K, H, W), heatmaps of height 1.
        mask: (B, H, W) bool, False for pixels that the loss ignores.
        foreground_weight: At least 0; 0 gives all pixels the same weight.

    Returns:
        (B, 1 or K, H, W).
    """
    if foreground_weight == 0:
        return mask[:, None]
    return (1.0 + foreground_weight * target) * mask[:, None]


def tag_loss(tags: Tensor, indices: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Push the mean tags of different people apart, and pull each person's tags together.

    Push is 0.5 * the mean over ordered pairs of distinct people of exp(-(difference of mean tags)^2), 0 for fewer than
    two people. Pull is the mean over a person's keypoints of the squared distance to the person's mean tag, averaged
    over people, 0 without people. Both are averaged over all images.

    Args:
        tags: (B, K, H, W).
        indices: (B, P, K) int64, positions in an image's flattened (K, H, W) tags (``targets.tag_indices``).
        valid: (B, P, K) bool, False for missing keypoints; a person without any keypoint is ignored.

    Returns:
        Push and pull, scalars float32.
    """
    batch, people, num_keypoints = indices.shape
    flat = tags.reshape(batch, -1)
    picked = flat.gather(1, indices.reshape(batch, -1)).view(batch, people, num_keypoints).float()
    picked = torch.where(valid, picked, 0.0)
    counts = valid.sum(2)
    present = counts > 0
    num_people = present.sum(1)

    means = picked.sum(2) / counts.clamp(min=1)
    deviations = torch.where(valid, picked - means[:, :, None], 0.0)
    pull = (deviations.square().sum(2) / counts.clamp(min=1)).sum(1) / num_people.clamp(min=1)

    pairs = present[:, :, None] & present[:, None, :] & ~torch.eye(people, dtype=torch.bool, device=tags.device)
    closeness = torch.exp(-(means[:, :, None] - means[:, None, :]).square())
    push = 0.5 * torch.where(pairs, closeness, 0.0).sum((1, 2)) / (num_people * (num_people - 1)).clamp(min=1)
    return push.mean(), pull.mean()
