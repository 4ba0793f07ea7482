"""Says which extra of this project installs the packages that a command needs."""

from importlib.util import find_spec

from supernet.errors import missing_packages

TRAINING = {"matplotlib": "matplotlib", "plotly": "plotly"}
"""Modules that training needs, and the packages they come from; what its tracker needs is checked with its options."""
SEARCH = {"matplotlib": "matplotlib", "plotly": "plotly", "sklearn": "scikit-learn"}
"""Modules that a search needs."""


def require(extra: str, work: str, modules: dict[str, str]) -> None:
    """Raise UserError if one of ``modules`` is not installed.

    Args:
        extra: The extra that installs them.
        work: What needs them, to begin the message with.
        modules: Names of modules, with the names of their packages.
    """
    missing = [package for module, package in modules.items() if find_spec(module) is None]
    if missing:
        raise missing_packages(work, missing, extra)
