"""A search run from its options to its results: what it scores, saves and resumes, and how it ends."""
