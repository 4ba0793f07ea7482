"""Data on disk in COCO or CrowdPose format."""
