"""Permutation importance: the deciding choice comes first, by as much as it changes the score."""

from collections.abc import Callable

import numpy as np
import pytest

from search.report.importance import importance
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.space import SearchSpace

NANO = SearchSpace.load("nano")
GENES = NANO.layout.sample(np.random.default_rng(0), 120)
ARCHS = NANO.decode(GENES)


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("resolution", lambda arch: arch.resolution / 16),
        ("stage 2: depth", lambda arch: arch.stages[2].depth),
        ("stage 3: width", lambda arch: arch.stages[3].width / 16),
        ("stage 1: kernel sizes", lambda arch: np.mean(arch.stages[1].kernel_sizes) / 2),
        ("stage 2: expand ratios", lambda arch: np.mean(arch.stages[2].expand_ratios)),
        ("deconv 2: width", lambda arch: arch.deconv_widths[2] / 8),
    ],
)
def test_the_only_choice_that_decides_the_score_comes_first_by_far(name: str, score: Callable[[Arch], float]) -> None:
    scores = np.array([float(score(arch)) for arch in ARCHS])
    by_choice = importance(NANO, GENES, scores, np.random.default_rng(1))
    assert next(iter(by_choice)) == name
    # With the choice of another arch, the score is that of the other arch.
    expected = np.abs(scores[:, None] - scores).mean()
    assert by_choice[name] == pytest.approx(expected, rel=0.25)
    assert max(value for other, value in by_choice.items() if other != name) < by_choice[name] / 2


def test_choices_with_a_single_value_are_not_listed() -> None:
    by_choice = importance(NANO, GENES, np.arange(120.0), np.random.default_rng(0))
    assert len(by_choice) == len(set(by_choice)) == 19
    assert {"stem: width", "stage 0: width"}.isdisjoint(by_choice)


def test_too_few_archs_are_refused() -> None:
    with pytest.raises(UserError, match=r"archs, got 5"):
        importance(NANO, GENES[:5], np.arange(5.0), np.random.default_rng(0))
