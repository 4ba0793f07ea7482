"""Pictures in, people out."""
