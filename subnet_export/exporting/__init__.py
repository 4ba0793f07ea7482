"""Exports: from a supernet or a model to a folder with checked files in further formats."""
