"""The folder of what is downloaded or made once and then kept."""

import os
from pathlib import Path

from supernet.version import PROJECT


def cache_folder() -> Path:
    """Return this project's folder in the user's folder for caches, which ``XDG_CACHE_HOME`` moves."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / PROJECT
