"""The exported model and its commands."""
