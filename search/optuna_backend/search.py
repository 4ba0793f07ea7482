"""Search by Optuna's samplers: archs within a budget, none evaluated twice, by any number of workers (no torch).

We differ from a plain Optuna loop: costs are known before an evaluation, so that an arch outside the budget is only
noted (a pruned trial with its constraint values, from which samplers learn) and one near it that fits takes its place;
so does an unknown neighbour of an arch that was evaluated before; and the first, random archs are drawn within the
budget.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.budget import Budget, CostModel
from search.candidate import Candidate, Result, Score
from search.evolution.offspring import Offspring, OffspringGenerator
from search.evolution.settings import BreedingSettings
from search.optuna_backend.local_study import LocalStudy, Suggestion, sampler_attrs
from search.optuna_backend.samplers import SamplerSettings, make_sampler
from search.optuna_backend.shared_study import ARCH, WITHDRAWN, SharedStudy, is_active, to_retry
from search.pareto import AP, check_known, check_objectives, fronts
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.space import SearchSpace

METRICS, NUM_IMAGES, ORIGIN = "metrics", "num_images", "origin"
WAIT_SECONDS = 0.2
NEIGHBOUR_ROUNDS = 8
NEIGHBOURS = 64


@dataclass(frozen=True)
class Proposal:
    """What to evaluate next: genes (G,), how they came about, and what the sampler noted."""

    row: Genes
    origin: str
    system_attrs: Mapping[str, Any]


@dataclass(frozen=True)
class OptunaSettings:
    """How to search.

    Attributes:
        num_evaluations: Archs to score in all, by all workers.
        sampler: How to propose.
        objectives: "ap", alone or with names of costs that are to be low.
    """

    num_evaluations: int
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    objectives: tuple[str, ...] = (AP,)

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range."""
        if self.num_evaluations < 1:
            raise UserError(f"evaluations is {self.num_evaluations}; it must be at least 1")
        check_objectives(self.objectives)


class OptunaSearch:
    """One worker of a search.

    Args:
        space: What to search.
        model: Costs of archs.
        budget: What every scored arch keeps.
        settings: How to search; equal for all workers.
        seed: Of all randomness. One worker alone repeats itself; what a worker that joins draws depends on the trials
            it finds as well, so that it does not repeat earlier proposals.
        shared: The study.
    """

    def __init__(
        self,
        space: SearchSpace,
        model: CostModel,
        budget: Budget,
        settings: OptunaSettings,
        seed: int,
        shared: SharedStudy,
    ) -> None:
        check_known(settings.objectives, model.names)
        self.space, self.model, self.budget, self.settings, self.shared = space, model, budget, settings, shared
        for_sampler, for_rest = np.random.SeedSequence([seed, len(shared.trials())]).spawn(2)
        sampler = make_sampler(settings.sampler, int(for_sampler.generate_state(1)[0]))
        self._mirror = LocalStudy(space, sampler, shared.study.directions)
        self._rng = np.random.default_rng(for_rest)
        self._breeder = OffspringGenerator(space, model, budget, BreedingSettings())
        self._rows: dict[int, Genes] = {}
        self._scored: dict[int, Candidate] = {}

    def run(self, score: Callable[[Arch], Score], on_round: Callable[[], None] = lambda: None) -> Result:
        """Search until the study has as many scored archs as wanted, or there are no more within the budget.

        Args:
            score: Sees archs within the budget only, and none that another evaluation has or had.
            on_round: Called before and after each evaluation, and now and then while this worker waits for others:
                time to show progress, or to stop by an exception.

        Raises:
            UserError: No arch that fits was found.
            ValueError: A score is not finite.
        """
        limit = self.settings.num_evaluations
        while True:
            on_round()
            trials = self.shared.trials()
            self._mirror.follow(trials)
            num_scored = sum(trial.state == TrialState.COMPLETE for trial in trials)
            num_active = sum(map(is_active, trials))
            if num_scored >= limit:
                break
            proposal = (self._retried(trials) or self._propose(trials)) if num_active < limit else None
            if proposal is not None:
                self._evaluate(proposal, score)
            elif num_active == num_scored:
                break  # there is nothing new within the budget
            else:
                time.sleep(WAIT_SECONDS)  # for what other workers have begun, and may leave unfinished
        return self.result()

    def candidates(self) -> list[Candidate]:
        """Return everything that any worker has scored, in the order in which it was begun."""
        scored = [trial for trial in self.shared.trials() if trial.state == TrialState.COMPLETE]
        return [self._candidate(trial, order) for order, trial in enumerate(scored)]

    def result(self) -> Result:
        """Return everything that any worker has scored, and the best of it.

        Raises:
            UserError: Nothing was scored.
        """
        archive = self.candidates()
        if not archive:
            raise UserError(f"no arch of space {self.space.name} fits the budget; allow more")
        values = np.array([[-v if name == AP else v for name, v in self._values(one).items()] for one in archive])
        best = max(archive, key=lambda one: (one.ap, -one.order))
        front = [one for one, rank in zip(archive, fronts(values, np.zeros(len(archive))), strict=True) if rank == 0]
        return Result(best, tuple(front) if values.shape[1] > 1 else (best,), tuple(archive))

    def _retried(self, trials: Sequence[FrozenTrial]) -> Proposal | None:
        """What another worker left unfinished."""
        for trial in to_retry(trials):
            notes = sampler_attrs(trial.system_attrs)
            return Proposal(self._row(trial), trial.user_attrs[ORIGIN], notes)
        return None

    def _propose(self, trials: Sequence[FrozenTrial]) -> Proposal | None:
        """Something new within the budget, None if nothing was found."""
        tried = [t for t in trials if t.state != TrialState.PRUNED and WITHDRAWN not in t.user_attrs]
        keys = [self._row(trial).tobytes() for trial in tried]
        asked = self._mirror.ask(self._constraints)
        key = asked.row.tobytes()
        fits = self._violation(asked.row[None])[0] == 0
        if not fits:
            self._note_outside(asked, trials)
        brood = Offspring(set(keys))
        if fits and brood.add(asked.row, "random"):
            return Proposal(asked.row, self.settings.sampler.sampler, asked.system_attrs)
        if (TrialState.RUNNING, key) in {(trial.state, each) for trial, each in zip(tried, keys, strict=True)}:
            self._reseed()
        if self.settings.sampler.sampler != "random" and len(tried) >= self.settings.sampler.startup:
            self._vary(asked.row, brood)
        origin = "neighbour" if brood.rows else "random"
        if not brood.rows:
            self._breeder.random(1, brood, self._rng)
        return Proposal(brood.rows[0], origin, asked.system_attrs) if brood.rows else None

    def _vary(self, row: Genes, brood: Offspring) -> None:
        """Add the nearest new row within the budget to ``brood``: the row itself, mended, or a neighbour."""
        variation = self._breeder.variation
        (mended,) = variation.repair(row[None], self._violation, self._rng)
        if self._violation(mended[None])[0] == 0 and brood.add(mended, "mutation"):
            return
        for round_number in range(NEIGHBOUR_ROUNDS):
            found = variation.mutate(np.repeat(mended[None], NEIGHBOURS, 0), self._rng, 0.05 * round_number)
            for one in found[self._violation(found) == 0]:
                if brood.add(one, "mutation"):
                    return

    def _note_outside(self, asked: Suggestion, trials: Sequence[FrozenTrial]) -> None:
        """Keep a proposal that breaks the budget as a pruned trial, for the sampler to learn from; once an arch."""
        digest = self.space.decode(asked.row[None])[0].digest()
        if all(trial.user_attrs[ARCH] != digest for trial in trials):
            params, distributions = self._mirror.params(asked.row)
            self.shared.add_pruned(digest, params, distributions, asked.constraints, asked.system_attrs)

    def _evaluate(self, proposal: Proposal, score: Callable[[Arch], Score]) -> None:
        """Claim a proposal and score it, unless another worker was first."""
        (arch,) = self.space.decode(proposal.row[None])
        params, distributions = self._mirror.params(proposal.row)
        trial = self.shared.claim(
            arch.digest(),
            self.settings.num_evaluations,
            params,
            distributions,
            self._constraints(proposal.row),
            {ORIGIN: proposal.origin},
            proposal.system_attrs,
        )
        if trial is None:
            self._reseed()
            return
        with self.shared.heartbeat(trial):
            found = score(arch)
            if not math.isfinite(found.ap):
                raise ValueError(f"the score of {arch.describe()} is {found.ap}; scores must be finite numbers")
        candidate = Candidate(arch, 0, 0, proposal.origin, self.model.of(arch), None, (found,))
        attrs = {METRICS: found.metrics, NUM_IMAGES: found.num_images}
        self.shared.complete(trial, list(self._values(candidate).values()), attrs)

    def _values(self, candidate: Candidate) -> dict[str, float]:
        return {name: candidate.ap if name == AP else candidate.costs[name] for name in self.settings.objectives}

    def _candidate(self, trial: FrozenTrial, order: int) -> Candidate:
        if trial.number not in self._scored:
            (arch,) = self.space.decode(self._row(trial)[None])
            score = Score(trial.user_attrs[NUM_IMAGES], dict(trial.user_attrs[METRICS]))
            one = Candidate(arch, order, 0, trial.user_attrs[ORIGIN], self.model.of(arch), None, (score,))
            self._scored[trial.number] = one
        return replace(self._scored[trial.number], order=order)

    def _row(self, trial: FrozenTrial) -> Genes:
        if trial.number not in self._rows:
            self._rows[trial.number] = self._mirror.row(trial)
        return self._rows[trial.number]

    def _constraints(self, row: Genes) -> dict[str, float]:
        costs = self.model(row[None])
        return {bound.name: bound.excess(costs[bound.cost]).item() for bound in self.budget.bounds}

    def _violation(self, rows: Genes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return self._breeder.violation(rows)

    def _reseed(self) -> None:
        """Draw anew, where this worker walks in the steps of another one."""
        self._mirror.reseed()
        self._rng = np.random.default_rng()
