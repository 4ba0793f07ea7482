"""What Optuna's samplers see: a copy of a shared study in memory, which they may ask without leaving traces (no torch).

A sampler's answer is written to the shared study only when it is known what becomes of it, in one piece.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from supernet.genes import ABSENT, Genes
from supernet.space import SearchSpace

_HINT = "relative_params"
"""Part of the keys under which samplers tell others what they are about to suggest."""


@dataclass(frozen=True)
class Suggestion:
    """A sampler's answer.

    Attributes:
        row: (G,) genes, as in ``SearchSpace.encode``.
        constraints: By name; the arch keeps the budget if all are zero or less.
        system_attrs: What the sampler noted about the trial, such as its generation.
    """

    row: Genes
    constraints: dict[str, float]
    system_attrs: dict[str, Any]


def sampler_attrs(system_attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a sampler keeps of a trial beyond its values, such as its generation."""
    return {key: value for key, value in system_attrs.items() if not key.startswith("constraints") and _HINT not in key}


class LocalStudy:
    """A copy of a study of archs of ``space``, and the sampler that learns from it.

    Args:
        space: Whose genes are the study's parameters; each is categorical, and blocks past the depth have none.
        sampler: What proposes.
        directions: Of the study.
    """

    def __init__(self, space: SearchSpace, sampler: BaseSampler, directions: Sequence[StudyDirection]) -> None:
        self.space = space
        self._study = optuna.create_study(sampler=sampler, directions=directions)
        self._numbers: dict[int, int] = {}
        self._running: set[int] = set()
        layout = space.layout
        self._blocks = {block + k for stage in layout.stages for block in stage.blocks for k in (0, 1)}
        self._distributions = [CategoricalDistribution(choices) for choices in layout.choices]

    def follow(self, trials: Sequence[FrozenTrial]) -> None:
        """Bring the copy up to date with all trials of the shared study."""
        for trial in trials:
            if trial.number in self._running and trial.state.is_finished():
                self._running.remove(trial.number)
                self._study.tell(self._numbers[trial.number], trial.values, trial.state)
            elif trial.number not in self._numbers and trial.state != TrialState.FAIL:
                self._study.add_trial(trial)
                self._numbers[trial.number] = len(self._study.get_trials(deepcopy=False)) - 1
                if trial.state == TrialState.RUNNING:
                    self._running.add(trial.number)

    def ask(self, constraints: Callable[[Genes], Mapping[str, float]]) -> Suggestion:
        """Return what the sampler proposes; ``constraints`` are those of one row, zero or less where it fits."""
        trial = self._study.ask()
        layout = self.space.layout
        row = np.zeros(len(layout.names), np.int16)
        for column, name in enumerate(layout.names):
            if column in self._blocks and not layout.present(row[None])[0, column]:
                row[column] = ABSENT
            elif len(layout.choices[column]) > 1:
                chosen = trial.suggest_categorical(name, layout.choices[column])
                row[column] = layout.choices[column].index(chosen)
        found = dict(constraints(row))
        for name, value in found.items():
            trial.set_constraint(name, value)
        noted = self._study.get_trials(deepcopy=False)[trial.number].system_attrs
        self._study.tell(trial, state=TrialState.FAIL)  # samplers leave failed trials out
        return Suggestion(row, found, sampler_attrs(noted))

    def reseed(self) -> None:
        """Give the sampler new randomness, for where it proposes what another worker does."""
        self._study.sampler.reseed_rng()

    def params(self, row: Genes) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """Return the parameters of a row, by name, and what each is drawn from."""
        layout = self.space.layout
        used = [c for c in range(len(row)) if row[c] != ABSENT and len(layout.choices[c]) > 1]
        params = {layout.names[c]: layout.choices[c][row[c]] for c in used}
        return params, {layout.names[c]: self._distributions[c] for c in used}

    def row(self, trial: FrozenTrial) -> Genes:
        """Return the genes (G,) of a trial's parameters."""
        layout = self.space.layout
        row = np.zeros(len(layout.names), np.int16)
        for column, name in enumerate(layout.names):
            if len(layout.choices[column]) > 1 and name in trial.params:
                row[column] = layout.choices[column].index(trial.params[name])
        checked: Genes = layout.checked(row[None])[0]
        return checked
