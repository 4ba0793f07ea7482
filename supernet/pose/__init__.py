"""Pose task: keypoints, data, targets, losses, grouping and evaluation; knows nothing of architecture search."""
