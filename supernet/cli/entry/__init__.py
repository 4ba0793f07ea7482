"""The console script ``litepose``: one command for all entry points, with help and completion that start no work."""
