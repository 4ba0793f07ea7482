"""What a search may aim at: AP, alone or with costs that are to be low."""

from collections.abc import Collection, Sequence

from supernet.errors import UserError

AP = "ap"


def check_objectives(objectives: Sequence[str]) -> None:
    """Raise UserError unless ``objectives`` are AP and names of costs, each once."""
    if objectives.count(AP) != 1 or len(set(objectives)) < len(objectives):
        raise UserError(f"objectives is {list(objectives)}; give ap and names of costs, each once")


def check_known(objectives: Sequence[str], costs: Collection[str]) -> None:
    """Raise UserError for an objective that is neither AP nor one of the names of ``costs``."""
    for name in objectives:
        if name != AP and name not in costs:
            raise UserError(f"there is no objective {name}; choose among {', '.join((AP, *costs))}")
