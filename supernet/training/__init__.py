"""A training run: launch, setup, loop, phases, optimizer."""
