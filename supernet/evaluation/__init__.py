"""Subnets extracted, calibrated and scored."""
