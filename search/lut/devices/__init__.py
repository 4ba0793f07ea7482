"""Devices without this project: what measures there, and tables from what comes back."""
