"""Durable files, untrusted values, mappings to dataclasses."""
