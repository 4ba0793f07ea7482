"""File formats of an exported network: the registry, the writers, the runtimes, and the check that they agree."""
