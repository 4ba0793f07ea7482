"""Search for the best subnets of a trained supernet within a budget: entry points, budgets, costs and AP predictor."""
