"""Sharing models: cards that hubs read, pictures, and ``python -m subnet_export.publish``."""
