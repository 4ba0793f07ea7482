"""Losses, coverage, validation AP, rollback, log, curves."""
