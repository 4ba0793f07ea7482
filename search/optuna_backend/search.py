"""Search with Optuna's samplers for archs within a budget, by any number of workers, without duplicates (no torch).

Differences from a plain Optuna loop, because the costs of an arch are known before its evaluation:

- A suggestion outside the budget is not evaluated. It becomes a pruned trial with its constraint values, from which
  samplers learn, and an arch near it that fits is evaluated instead.
- A suggestion that was evaluated before is replaced by a new neighbour.
- The first, random archs are drawn within the budget.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.budget import Budget
from search.candidate import Candidate, Result, Score
from search.evolution.offspring import Offspring, OffspringGenerator
from search.evolution.settings import OffspringSettings
from search.objectives import AP, check_known, check_objectives
from search.optuna_backend.local_study import LocalStudy, Suggestion, sampler_attrs
from search.optuna_backend.samplers import SamplerSettings, make_sampler
from search.optuna_backend.shared_study import ARCH, WITHDRAWN, SharedStudy, is_active, to_retry
from search.pareto import fronts
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.io.schema import check_number

METRICS, NUM_IMAGES, ORIGIN, MATCHES = "metrics", "num_images", "origin", "matches"
MOST_LETTERS = 60_000
"""Longest matches that a study keeps: a text in MySQL has at most 65,535 bytes."""
WAIT_SECONDS = 0.2
NEIGHBOUR_ROUNDS = 8
NUM_NEIGHBOURS = 64


@dataclass(frozen=True)
class Proposal:
    """An arch to evaluate next: its genes (G,), their origin, and what the sampler stores in the trial."""

    row: Genes
    origin: str
    system_attrs: Mapping[str, Any]


@dataclass(frozen=True)
class OptunaSettings:
    """Settings of :class:`OptunaSearch`.

    Attributes:
        num_evaluations: Archs to score in total, by all workers.
        sampler: Which sampler proposes archs.
        objectives: "ap", alone or with names of costs to minimize.
    """

    num_evaluations: int
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    objectives: tuple[str, ...] = (AP,)

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range."""
        check_number("evaluations", self.num_evaluations, least=1)
        check_objectives(self.objectives)


class OptunaSearch:
    """One worker of a search with Optuna.

    Args:
        budget: Bounds that every scored arch meets, in the space that is searched.
        settings: Settings of the search, the same for all workers.
        seed: Seed of all randomness. A single worker is deterministic. The randomness of a worker that joins a study
            also depends on the number of its trials, so that the worker does not repeat earlier proposals.
        shared: The study.
        matches_of: Returns the matches of an arch that was just scored, image by image as text, for the study to keep;
            None where they are kept elsewhere.

    Raises:
        UserError: An objective is neither AP nor a cost.
    """

    def __init__(
        self,
        budget: Budget,
        settings: OptunaSettings,
        seed: int,
        shared: SharedStudy,
        matches_of: Callable[[Arch], str | None] = lambda arch: None,
    ) -> None:
        check_known(settings.objectives, budget.model.names)
        self.space, self.model = budget.model.space, budget.model
        self.budget, self.settings, self.shared = budget, settings, shared
        sampler_seed, rng_seed = np.random.SeedSequence([seed, len(shared.trials())]).spawn(2)
        sampler = make_sampler(settings.sampler, int(sampler_seed.generate_state(1)[0]))
        self._local = LocalStudy(self.space, sampler, shared.study.directions, self._constraints)
        self._rng = np.random.default_rng(rng_seed)
        self._generator, self._matches_of = OffspringGenerator(budget, OffspringSettings()), matches_of
        self._rows: dict[int, Genes] = {}
        self._scored: dict[int, Candidate] = {}

    def run(self, score: Callable[[Arch], Score]) -> Result:
        """Call :meth:`step` until the search is over; return the result.

        Raises:
            UserError: No arch within the budget was found.
            ValueError: A score is not finite.
        """
        while self.step(score):
            pass
        return self.result()

    def step(self, score: Callable[[Arch], Score]) -> bool:
        """Evaluate one arch, or wait a moment for the evaluations of other workers.

        Args:
            score: Returns the score of an arch. It gets archs within the budget only, and none that is evaluated by
                another worker or was evaluated before.

        Returns:
            False if the search is over: the study has all its evaluations, or there are no new archs in the budget.

        Raises:
            ValueError: The score is not finite.
        """
        limit = self.settings.num_evaluations
        trials = self.shared.trials()
        self._local.update(trials)
        num_scored = sum(trial.state == TrialState.COMPLETE for trial in trials)
        num_active = sum(map(is_active, trials))
        if num_scored >= limit:
            return False
        proposal = (self._retry(trials) or self._propose(trials)) if num_active < limit else None
        if proposal is not None:
            self._evaluate(proposal, score)
        elif num_active == num_scored:
            return False  # nothing new within the budget
        else:
            time.sleep(WAIT_SECONDS)  # other workers may fail to finish what they evaluate
        return True

    def candidates(self) -> list[Candidate]:
        """Return what all workers have scored, in the order in which the evaluations started."""
        return [self._candidate(trial, order) for order, trial in enumerate(self._complete())]

    def matches(self) -> list[tuple[Candidate, str]]:
        """Return the candidates whose matches the study keeps, with these."""
        return [
            (self._candidate(trial, order), trial.user_attrs[MATCHES])
            for order, trial in enumerate(self._complete())
            if MATCHES in trial.user_attrs
        ]

    def result(self) -> Result:
        """Return the best candidate, the front, and all candidates of all workers.

        Raises:
            UserError: Nothing was scored.
        """
        archive = self.candidates()
        if not archive:
            raise UserError(f"no arch of space {self.space.name} within the budget was found; loosen the budget")
        best = max(archive, key=lambda candidate: (candidate.ap, -candidate.order))
        if len(self.settings.objectives) == 1:
            return Result(best, (best,), tuple(archive))
        values = np.array(
            [[-v if name == AP else v for name, v in self._values(candidate).items()] for candidate in archive]
        )
        numbers = fronts(values, np.zeros(len(archive)))
        front = [candidate for candidate, number in zip(archive, numbers, strict=True) if number == 0]
        return Result(best, tuple(front), tuple(archive))

    def _retry(self, trials: Sequence[FrozenTrial]) -> Proposal | None:
        """Return an arch whose evaluation failed."""
        for trial in to_retry(trials):
            return Proposal(self._row(trial), trial.user_attrs[ORIGIN], sampler_attrs(trial.system_attrs))
        return None

    def _propose(self, trials: Sequence[FrozenTrial]) -> Proposal | None:
        """Return a new arch within the budget, None if none was found."""
        sampler = self.settings.sampler
        tried = [trial for trial in trials if trial.state != TrialState.PRUNED and WITHDRAWN not in trial.user_attrs]
        keys = [self._row(trial).tobytes() for trial in tried]
        suggestion = self._local.ask()
        row, key = suggestion.row, suggestion.row.tobytes()
        is_within_budget = self._generator.violation(row[None])[0] == 0
        if not is_within_budget:
            self._add_pruned(suggestion, trials)
        new = Offspring(set(keys))
        if is_within_budget and new.add(row, "random"):
            return Proposal(row, sampler.sampler, suggestion.system_attrs)
        running = {known for trial, known in zip(tried, keys, strict=True) if trial.state == TrialState.RUNNING}
        if key in running:
            self._reseed()
        if sampler.sampler != "random" and len(tried) >= sampler.startup:
            self._add_neighbour(row, new)
        origin = "neighbour" if new.rows else "random"
        if not new.rows:
            self._generator.random(1, new, self._rng)
        return Proposal(new.rows[0], origin, suggestion.system_attrs) if new.rows else None

    def _add_neighbour(self, row: Genes, new: Offspring) -> None:
        """Add the nearest new row within the budget to ``new``: the repaired row itself, or a mutation of it."""
        operators, violation = self._generator.operators, self._generator.violation
        (repaired,) = operators.repair(row[None], violation, self._rng)
        if violation(repaired[None])[0] == 0 and new.add(repaired, "mutation"):
            return
        for round_number in range(NEIGHBOUR_ROUNDS):
            copies = np.repeat(repaired[None], NUM_NEIGHBOURS, 0)
            neighbours = operators.mutate(copies, self._rng, 0.05 * round_number)
            for neighbour in neighbours[violation(neighbours) == 0]:
                if new.add(neighbour, "mutation"):
                    return

    def _add_pruned(self, suggestion: Suggestion, trials: Sequence[FrozenTrial]) -> None:
        """Add a suggestion that breaks the budget as a pruned trial, from which samplers learn; once for each arch."""
        digest = self.space.decode(suggestion.row[None])[0].digest()
        if all(trial.user_attrs[ARCH] != digest for trial in trials):
            self.shared.add_pruned(digest, self._local.params(suggestion.row), suggestion.system_attrs)

    def _evaluate(self, proposal: Proposal, score: Callable[[Arch], Score]) -> None:
        """Claim a proposal and score it, unless another worker was first."""
        (arch,) = self.space.decode(proposal.row[None])
        params = self._local.params(proposal.row)
        limit, user_attrs = self.settings.num_evaluations, {ORIGIN: proposal.origin}
        trial = self.shared.claim(arch.digest(), limit, params, user_attrs, proposal.system_attrs)
        if trial is None:
            self._reseed()
            return
        with self.shared.heartbeat(trial):
            arch_score = score(arch)
            if not math.isfinite(arch_score.ap):
                raise ValueError(f"the score of {arch.describe()} must be a finite number, got {arch_score.ap}")
        candidate = Candidate(arch, 0, 0, proposal.origin, self.model.of(arch), None, (arch_score,))
        attrs = {METRICS: arch_score.metrics, NUM_IMAGES: arch_score.num_images}
        matches = self._matches_of(arch)
        if matches is not None and len(matches) <= MOST_LETTERS:
            attrs |= {MATCHES: matches}
        self.shared.complete(trial, list(self._values(candidate).values()), attrs)

    def _complete(self) -> list[FrozenTrial]:
        return [trial for trial in self.shared.trials() if trial.state == TrialState.COMPLETE]

    def _values(self, candidate: Candidate) -> dict[str, float]:
        return {name: candidate.ap if name == AP else candidate.costs[name] for name in self.settings.objectives}

    def _candidate(self, trial: FrozenTrial, order: int) -> Candidate:
        if trial.number not in self._scored:
            (arch,) = self.space.decode(self._row(trial)[None])
            score = Score(trial.user_attrs[NUM_IMAGES], dict(trial.user_attrs[METRICS]))
            candidate = Candidate(arch, order, 0, trial.user_attrs[ORIGIN], self.model.of(arch), None, (score,))
            self._scored[trial.number] = candidate
        return replace(self._scored[trial.number], order=order)

    def _row(self, trial: FrozenTrial) -> Genes:
        if trial.number not in self._rows:
            self._rows[trial.number] = self._local.row(trial)
        return self._rows[trial.number]

    def _constraints(self, row: Genes) -> dict[str, float]:
        costs = self.model(row[None])
        return {bound.name: bound.excess(costs[bound.cost]).item() for bound in self.budget.bounds}

    def _reseed(self) -> None:
        """Reseed: this worker repeats the proposals of another worker."""
        self._local.reseed()
        self._rng = np.random.default_rng()
