"""Whether a command ended as it may: finished, stopped or refused in one sentence, killed; all else is a defect."""

from scripts.soaking.process import Ended

FINISHED, STOPPED, REFUSED, KILLED = "finished", "stopped", "refused", "killed"
NOT_TOLD = ("Traceback (most recent call last)", "Exception ignored", "Fatal Python error", "Exception in thread")
"""What a user must never read, however the command ends."""

_MOST_LINES = 60


def verdict(ended: Ended) -> str | None:
    """Return how a command ended, of the four ways allowed; None if in no such way."""
    if complaint(ended) is not None:
        return None
    if ended.status == 0:
        return FINISHED
    if ended.status < 0:
        return KILLED
    return STOPPED if sentence(ended).startswith("stopped ") else REFUSED


def complaint(ended: Ended) -> str | None:
    """Return what is wrong with the way a command ended; None if nothing is."""
    if ended.hung:
        return f"hung: it had not ended after {ended.seconds:.0f} s"
    for words in NOT_TOLD:
        if words in ended.told or words in ended.printed:
            return f"told {words!r}"
    if ended.status == 0 or (ended.status < 0 and ended.struck):
        return None
    if ended.status != 2:
        return f"ended with status {ended.status}"
    if not sentence(ended):
        return "ended with status 2, but its last line is no single error"
    return None


def sentence(ended: Ended) -> str:
    """Return what a refused command gives as its reason; empty unless that is the one line it ends with."""
    lines = ended.told.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[0].removeprefix("error: ") if len(errors) == 1 and lines[-1] == errors[0] else ""


def tail(ended: Ended) -> str:
    """Return the last lines that a command wrote, standard output first."""
    lines = [*ended.printed.splitlines(), *ended.told.splitlines()]
    return "\n".join(lines[-_MOST_LINES:])
