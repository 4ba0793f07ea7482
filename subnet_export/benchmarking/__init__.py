"""Latency and throughput of subnets in each runtime, and what a latency table predicts for them."""
