"""Where this package's configuration files are: beside the package, whatever the working folder contains."""

from pathlib import Path

CONF_FOLDER = Path(__file__).resolve().parents[2] / "conf"
"""The folder ``conf`` of this repository, or the one installed with the package."""
