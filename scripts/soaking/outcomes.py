"""Outcomes of a command: finished, stopped or refused in one sentence, killed. Anything else is a defect."""

from scripts.soaking.process import CommandResult

FINISHED, STOPPED, REFUSED, KILLED = "finished", "stopped", "refused", "killed"
FORBIDDEN_OUTPUT = (
    "Traceback (most recent call last)",
    "Exception ignored",
    "Fatal Python error",
    "Exception in thread",
)
"""Text that a user must never see, whatever the outcome."""

_MAX_LINES = 60


def outcome_of(result: CommandResult) -> str | None:
    """Return the outcome of a command; None if it is none of the four allowed ones."""
    if problem_of(result) is not None:
        return None
    if result.status == 0:
        return FINISHED
    if result.status < 0:
        return KILLED
    return STOPPED if error_message(result).startswith("stopped ") else REFUSED


def problem_of(result: CommandResult) -> str | None:
    """Return what is wrong with the outcome of a command; None if nothing."""
    if result.hung:
        return f"hung: it did not end within {result.seconds:.0f} s"
    for text in FORBIDDEN_OUTPUT:
        if text in result.stderr or text in result.stdout:
            return f"printed {text!r}"
    if result.status == 0 or (result.status < 0 and result.interrupted):
        return None
    if result.status != 2:
        return f"ended with status {result.status}"
    if not error_message(result):
        return "ended with status 2, but not with exactly one error as the last line"
    return None


def error_message(result: CommandResult) -> str:
    """Return the error of a refused command; empty unless there is exactly one, on the last line."""
    lines = result.stderr.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[0].removeprefix("error: ") if len(errors) == 1 and lines[-1] == errors[0] else ""


def last_lines(result: CommandResult) -> str:
    """Return the last lines of a command's output, standard output first."""
    lines = [*result.stdout.splitlines(), *result.stderr.splitlines()]
    return "\n".join(lines[-_MAX_LINES:])
