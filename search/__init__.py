"""Entry points; budgets, costs, candidates, predictor."""
