"""Monitoring of a training run: losses, coverage, validation AP, rollback, log, curves."""
