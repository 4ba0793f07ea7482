"""Images in, people out."""
