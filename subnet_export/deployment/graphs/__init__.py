"""Graphs written layer by layer, in the formats of libraries whose converters are slow or large."""
