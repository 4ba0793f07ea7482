"""What a search shows, in sentences that claim no order which the images do not support (no torch)."""

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import kendalltau

from search.budget import Budget
from search.objectives import AP, COST_LABELS
from search.quantities import readable
from search.report.figures import Scored
from search.report.intervals import MOST_SUBNETS, PERCENT, Intervals, is_order_known, not_distinguishable, show
from supernet.arch import Arch

Row = Mapping[str, Any]
NO_INTERVALS = (
    "This search kept no matches of single images, so that nothing here says how sure an order is; differences of a "
    "few hundredths of AP on a few hundred images are often chance."
)
_STEEP, _FLAT = 0.3, 0.15
"""Kendall tau of AP and a cost from which AP is said to rise with it, and up to which it is said not to."""


def findings(summary: Row, scored: Scored, budget: Budget, costs: Sequence[str]) -> list[str]:
    """Return the findings of a search as sentences.

    Args:
        summary: Of the search.
        scored: Its comparable candidates.
        budget: Its budget.
        costs: The costs of interest.
    """
    ranked = sorted(scored.rows, key=lambda row: (-row["metrics"]["AP"], row["order"]))
    number = ranked[0].get("num_images")
    tied, is_known = not_distinguishable(scored.intervals, ranked, number)
    sentences = [] if is_known else [NO_INTERVALS]
    sentences += _against_random(summary, scored.intervals)
    if is_known:
        sentences += _cheapest(ranked, tied, costs[0])
    sentences += _effect_of_budget(scored.rows, budget, summary["chosen"])
    return sentences + _effect_of_resolution(ranked, scored)


def _against_random(summary: Row, intervals: Intervals) -> list[str]:
    """Compare the chosen subnet with the random ones on test images."""
    chosen, number = summary["chosen"], summary.get("num_test_images")
    test, baseline = chosen["metrics"].get("test"), summary.get("baseline", {})
    if test is None:
        return []
    own = show(test["AP"], intervals.of("test", number, chosen["digest"]))
    sentences = [f"The chosen subnet has AP {own} on {number} test images, which had no part in the choice."]
    subnets = [row for row in baseline.get("subnets", ()) if "arch" in row]
    if not subnets:
        return sentences
    digests = [Arch.from_dict(row["arch"]).digest() for row in subnets]
    aps = [row["metrics"]["AP"] for row in subnets]
    mean = sum(aps) / len(aps)
    over_mean = intervals.difference_from_mean("test", number, chosen["digest"], digests)
    best = max(range(len(aps)), key=aps.__getitem__)
    over_best = intervals.difference("test", number, chosen["digest"], digests[best])
    kind = f"{len(aps)} random subnet{'s' * (len(aps) != 1)} within the budget"
    if over_mean is None or over_best is None:
        found = f"The mean AP of {kind} is {mean:.3f}, the best has {aps[best]:.3f}."
        return [*sentences, found, *_about_repaired(baseline, len(subnets))]
    verdict = "better than" if over_mean[0] > 0 else "worse than" if over_mean[1] < 0 else "not shown to differ from"
    shown = difference_in_words(test["AP"] - mean, over_mean)
    sentences.append(f"It is {verdict} the mean of {kind} ({mean:.3f}): the difference is {shown}.")
    difference = difference_in_words(test["AP"] - aps[best], over_best)
    if is_order_known(over_best):
        order = "above" if over_best[0] > 0 else "below"
        sentences.append(f"It is {order} the best of these ({aps[best]:.3f}): the difference is {difference}.")
    else:
        sentences.append(
            f"Whether it is better than the best of these ({aps[best]:.3f}) cannot be decided on these images: the "
            f"difference is {difference}."
        )
    return sentences + _about_repaired(baseline, len(subnets))


def _about_repaired(baseline: Row, num: int) -> list[str]:
    """Say how many of ``num`` random subnets are no uniform draws from the budget."""
    repaired = num - int(baseline.get("num_uniform", num))
    if repaired <= 0:
        return []
    return [
        f"Random draws hardly ever fit this budget, so single choices of {repaired} of the {num} random subnets were "
        "changed until they fit, which leaves them near its limits."
    ]


def difference_in_words(value: float, ends: tuple[float, float]) -> str:
    """Return a difference of AP with its interval, "+0.012 (-0.004 to +0.031)"."""
    value, low, high = (round(number, 3) + 0.0 for number in (value, *ends))  # no "-0.000"
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _cheapest(ranked: Sequence[Row], tied: set[str], cost: str) -> list[str]:
    """Say how many of the compared candidates may be as good as the best, and what the cheapest of them costs."""
    if len(ranked) == 1:
        return []
    num_compared = min(len(ranked), MOST_SUBNETS)
    is_complete = num_compared == len(ranked)
    if len(tied) == 1:
        others = "all others" if is_complete else f"the {num_compared - 1} next best"
        return [f"On {ranked[0]['num_images']} validation images, the best subnet is distinguishable from {others}."]
    compared = f"{len(ranked)} subnets" if is_complete else f"the {num_compared} best subnets"
    members = [row for row in ranked if row["digest"] in tied]
    cheapest = min(members, key=lambda row: float(row["costs"][cost]))
    share = cheapest["costs"][cost] / ranked[0]["costs"][cost]
    return [
        f"On {ranked[0]['num_images']} validation images, {len(tied)} of {compared} cannot be distinguished "
        f"from the best one ({ranked[0]['digest']}), so their order is not known. The cheapest of them, "
        f"{cheapest['digest']}, has AP {cheapest['metrics']['AP']:.3f} and {share:.0%} of its cost "
        f"({COST_LABELS[cost]}: {_value(cost, cheapest['costs'][cost])})."
    ]


def _effect_of_budget(rows: Sequence[Row], budget: Budget, chosen: Row) -> list[str]:
    """Say for each bound how much of it is used, and whether AP rises towards it."""
    sentences = []
    for bound in budget.bounds:
        costs = [row["costs"][bound.cost] for row in rows]
        used = chosen["costs"][bound.cost] / bound.value
        kind = "at least" if bound.is_least else "at most"
        text = f"Budget, {COST_LABELS[bound.cost]} {kind} {bound.show()}: the chosen subnet has {used:.0%} of it. "
        aps = [row["metrics"]["AP"] for row in rows]
        if min(len(set(costs)), len(set(aps))) == 1:
            equal = "cost" if len(set(costs)) == 1 else "AP"
            subnets = f"all {len(rows)} evaluated subnets have the same {equal}"
            reason = "only one subnet was evaluated" if len(rows) == 1 else subnets
            sentences.append(f"{text}Whether AP depends on this cost is not known: {reason}.")
            continue
        tau = kendalltau(costs, aps).statistic
        if tau > _STEEP:
            rest = "what costs more is better here" if bound.is_least else "a larger budget may raise AP further"
            text += f"Among the evaluated subnets AP rises with this cost, so {rest}"
        elif tau < -_STEEP:
            rest = "a smaller lower bound may raise AP further" if bound.is_least else "what costs less is better here"
            text += f"Among the evaluated subnets AP falls with this cost, so {rest}"
        elif abs(tau) <= _FLAT:
            text += (
                "Among the evaluated subnets AP hardly depends on this cost: other choices decide within this budget"
            )
        else:
            text += "Among the evaluated subnets AP depends on this cost weakly"
        sentences.append(f"{text} (Kendall tau {tau:.2f}, {len(rows)} subnets).")
    if not budget.bounds:
        sentences.append("Nothing bounded the search, so the most expensive subnets compete with the cheapest.")
    return sentences


def _effect_of_resolution(ranked: Sequence[Row], scored: Scored) -> list[str]:
    """Say which resolutions hold a subnet that may be as good as the best one."""
    sizes = sorted({row["arch"]["img_size"] for row in ranked})
    text = (
        "Multiply-adds and memory grow with the square of the input resolution, so under a budget a larger input "
        "leaves less for width, depth and kernels; parameters do not depend on it."
    )
    if len(sizes) == 1:
        return [f"All evaluated subnets take {sizes[0]} px."]
    best = {size: next(row for row in ranked if row["arch"]["img_size"] == size) for size in sizes}
    first = ranked[0]["arch"]["img_size"]
    number = ranked[0].get("num_images")
    shown = ", ".join(f"{size} px {show(best[size]['metrics']['AP'], scored.interval(best[size]))}" for size in sizes)
    text += f" Best AP by resolution: {shown}."
    open_sizes = []
    for size in sizes:
        difference = scored.intervals.difference("val", number, ranked[0]["digest"], best[size]["digest"])
        if size != first and difference is not None and not is_order_known(difference):
            open_sizes.append(size)
    if open_sizes:
        others = " and ".join(f"{size} px" for size in open_sizes)
        text += (
            f" {first} px holds the best one, but {others} cannot be excluded ({PERCENT} interval of the difference)."
        )
    return [text]


def _value(cost: str, value: float) -> str:
    return f"{value:.2f} ms" if cost == "latency_ms" else readable(value)


def costs_of_interest(summary: Row, budget: Budget) -> list[str]:
    """Return the costs that were bounded or minimized, in order; MACs if there are none."""
    names = [bound.cost for bound in budget.bounds] + [name for name in summary.get("objectives", ()) if name != AP]
    return list(dict.fromkeys(names)) or ["macs"]
