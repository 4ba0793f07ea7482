"""The pose task: keypoints, inference, grouping, evaluation."""
