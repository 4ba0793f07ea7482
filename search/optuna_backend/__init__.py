"""Search with Optuna's samplers, by any number of workers on one study."""
