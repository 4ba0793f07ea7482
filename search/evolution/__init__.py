"""Evolutionary search with an ask-and-tell interface, and the operators and surrogate it uses."""
