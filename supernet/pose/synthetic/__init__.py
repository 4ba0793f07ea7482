"""Built-in people: annotated images drawn on the fly."""
