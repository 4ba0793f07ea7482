"""Latency tables: measure the blocks of a search space, so that the latency of any of its archs can be predicted."""
