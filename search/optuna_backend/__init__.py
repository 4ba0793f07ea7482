"""Search by Optuna with many workers."""
