"""A local copy of a shared study, in which Optuna's samplers can be asked without writing to the shared one (no torch).

The suggestion of a sampler may break the budget or repeat an earlier arch. It is therefore written to the shared study
only when it is known what is done with it, as one complete trial.
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

_RELATIVE_PARAMS = "relative_params"
"""Part of the attribute names under which samplers store what they are about to suggest."""


@dataclass(frozen=True)
class TrialParams:
    """What describes an arch in a trial.

    Attributes:
        values: Values by parameter name.
        distributions: By parameter name, what the value is drawn from.
        constraints: By name; the arch is within the budget if all are zero or less.
    """

    values: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    constraints: dict[str, float]


@dataclass(frozen=True)
class Suggestion:
    """An arch that a sampler suggests.

    Attributes:
        row: (G,) genes, as in ``SearchSpace.encode``.
        system_attrs: What the sampler stores in the trial, such as its generation.
    """

    row: Genes
    system_attrs: dict[str, Any]


def sampler_attrs(system_attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the system attributes of a trial that a sampler reads later, such as its generation."""
    return {
        key: value
        for key, value in system_attrs.items()
        if not key.startswith("constraints") and _RELATIVE_PARAMS not in key
    }


class LocalStudy:
    """A copy of a study of archs of ``space``, and the sampler that learns from it.

    Args:
        space: Its genes are the parameters of the study. All are categorical; absent blocks have no parameters.
        sampler: Suggests archs.
        directions: Directions of the study.
        constraints: Returns the constraints of genes (G,) by name, zero or less where the arch is within the budget.
    """

    def __init__(
        self,
        space: SearchSpace,
        sampler: BaseSampler,
        directions: Sequence[StudyDirection],
        constraints: Callable[[Genes], Mapping[str, float]],
    ) -> None:
        self.space = space
        self._constraints = constraints
        self._study = optuna.create_study(sampler=sampler, directions=directions)
        self._numbers: dict[int, int] = {}
        self._running: set[int] = set()
        layout = space.layout
        self._blocks = {block + k for stage in layout.stages for block in stage.blocks for k in (0, 1)}
        self._distributions = [CategoricalDistribution(choices) for choices in layout.choices]

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Copy what is new in the trials of the shared study, of which all are given."""
        for trial in trials:
            if trial.number in self._running and trial.state.is_finished():
                self._running.remove(trial.number)
                self._study.tell(self._numbers[trial.number], trial.values, trial.state)
            elif trial.number not in self._numbers and trial.state != TrialState.FAIL:
                self._study.add_trial(trial)
                self._numbers[trial.number] = len(self._study.get_trials(deepcopy=False)) - 1
                if trial.state == TrialState.RUNNING:
                    self._running.add(trial.number)

    def ask(self) -> Suggestion:
        """Return what the sampler suggests."""
        trial = self._study.ask()
        layout = self.space.layout
        row = np.zeros(len(layout.names), np.int16)
        for column, name in enumerate(layout.names):
            if column in self._blocks and not layout.present(row[None])[0, column]:
                row[column] = ABSENT
            elif len(layout.choices[column]) > 1:
                value = trial.suggest_categorical(name, layout.choices[column])
                row[column] = layout.choices[column].index(value)
        for name, constraint in self._constraints(row).items():
            trial.set_constraint(name, constraint)
        system_attrs = self._study.get_trials(deepcopy=False)[trial.number].system_attrs
        self._study.tell(trial, state=TrialState.FAIL)  # samplers ignore failed trials
        return Suggestion(row, sampler_attrs(system_attrs))

    def reseed(self) -> None:
        """Give the sampler new randomness, so that it does not repeat the suggestions of another worker."""
        self._study.sampler.reseed_rng()

    def params(self, row: Genes) -> TrialParams:
        """Return what describes the arch with genes ``row`` (G,) in a trial."""
        layout = self.space.layout
        used = [column for column in range(len(row)) if row[column] != ABSENT and len(layout.choices[column]) > 1]
        return TrialParams(
            {layout.names[column]: layout.choices[column][row[column]] for column in used},
            {layout.names[column]: self._distributions[column] for column in used},
            dict(self._constraints(row)),
        )

    def row(self, trial: FrozenTrial) -> Genes:
        """Return the genes (G,) of a trial."""
        layout = self.space.layout
        row = np.zeros(len(layout.names), np.int16)
        for column, name in enumerate(layout.names):
            if len(layout.choices[column]) > 1 and name in trial.params:
                row[column] = layout.choices[column].index(trial.params[name])
        checked: Genes = layout.checked(row[None])[0]
        return checked
