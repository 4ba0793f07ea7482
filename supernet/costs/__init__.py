"""Costs of archs: MACs, parameters, memory, latency (no torch)."""
