"""Evolutionary search as ask and tell."""
