"""The exception for invalid user input, and the words that its messages share."""

import difflib
from collections.abc import Iterable, Sequence

from supernet.version import PROJECT

_LONGEST = 1000
_TAIL = 300


class UserError(ValueError):
    """Invalid user input. The message is one sentence: what is wrong, which rule it breaks, how to fix it.

    Entry points print it without a traceback and exit with status 2; every other exception is a bug of this project.

    A message may contain text from untrusted files, so ``str`` makes it safe to print: control characters are escaped
    and the middle of a very long message is left out.
    """

    def __str__(self) -> str:
        """Return the message as it may be printed; ``args`` holds it unchanged."""
        message = super().__str__()
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST - _TAIL]} ... {message[-_TAIL:]}"
        return printable(message)


def missing_packages(purpose: str, packages: Sequence[str], extra: str, remedy: str = "") -> UserError:
    """Return the error that ``purpose`` needs ``packages``, which an extra of this project, or ``remedy``, provides."""
    which = f"the package {packages[0]}, which is" if len(packages) == 1 else f"{', '.join(packages)}, which are"
    return UserError(f"{purpose} needs {which} not installed; run pip install '{PROJECT}[{extra}]'{remedy}")


def suggestion(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return ", did you mean ...?" with the known name most similar to ``name``; empty if none has that likeness.

    A name with dots that ends in ``.name`` counts as similar: ``constraint.macs`` for ``macs``.
    """
    names = list(known)
    inside = [other for other in names if other.endswith(f".{name}")]
    similar = inside if len(inside) == 1 else difflib.get_close_matches(name, names, n=1, cutoff=likeness)
    return f", did you mean {similar[0]}?" if similar else ""


def first_few(items: Sequence[str], separator: str = ", ", most: int = 5) -> str:
    """Return the first ``most`` items as one text and the number of those left out: "a, b and 3 more"."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return separator.join(items[:most]) + more


def printable(text: str) -> str:
    """Return ``text`` with control characters, which a terminal would obey, replaced by their escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
