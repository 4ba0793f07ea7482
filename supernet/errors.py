"""The one exception for a user's mistake."""


class UserError(ValueError):
    """Bad input, told in one sentence that names the thing, the rule and the remedy.

    Entry points print it without a traceback and exit with status 2; every other exception is a defect of ours.
    """
