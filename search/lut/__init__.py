"""Builds, verifies and ships latency tables."""
