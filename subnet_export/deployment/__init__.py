"""Formats, graphs, runtimes, and whether they agree."""
