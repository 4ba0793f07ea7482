"""Graphs of blocks and whole networks, in the formats of the libraries that are measured."""
