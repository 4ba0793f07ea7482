"""The one exception for a user's mistake."""

_LONGEST = 1000
_TAIL = 300


class UserError(ValueError):
    """Bad input, told in one sentence that names the thing, the rule and the remedy.

    Entry points print it without a traceback and exit with status 2; every other exception is a defect of ours.

    What a file holds may stand in the sentence, so it is made fit for a terminal: characters that a screen would obey
    instead of showing are written as escapes, and the middle of a sentence that is far too long is left out.
    """

    def __str__(self) -> str:
        """Return the sentence as it may be shown; ``args`` has it as it was given."""
        message = super().__str__()
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST - _TAIL]} ... {message[-_TAIL:]}"
        if message.isprintable():
            return message
        return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in message)
