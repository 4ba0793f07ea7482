"""Search for the best subnet under cost budgets."""
