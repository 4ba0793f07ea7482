"""Exports subnets as models that are ready to use, and predicts with, fine-tunes and benchmarks such models."""
