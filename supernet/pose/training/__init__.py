"""Augmented batches, targets, losses."""
