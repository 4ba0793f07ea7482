"""What an arch costs: MACs, parameters, memory, latency (no torch)."""
