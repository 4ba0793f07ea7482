"""Built-in people, drawn on the fly."""
