"""Evolutionary search for the best archs within a budget: the highest AP, or trade-offs of AP and costs (no torch).

Source: Once-for-All (arXiv 1908.09791), section 3.4 and its published settings (population 100, a quarter as parents,
half of the children by mutation at rate 0.1, half by crossover), which LitePose (arXiv 2205.01271) follows; with
several objectives NSGA-II (Deb et al. 2002). We differ: no arch is scored twice; parents are the best of everything
scored so far, so that a good arch is never lost; proposals outside the budget are never scored but drawn again, or
changed step by step until they fit; more children come from mutation, at half the rate but of one value at least, which
``scripts/studies/search_engines.py`` found better; and with successive halving (Jamieson and Talwalkar 2016, over all
generations as in ASHA, Li et al. 2020) the best of those scored on few images are scored on more.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from search.budget import Budget, CostModel
from search.candidate import Candidate, Result, Score
from search.evolution.offspring import Offspring, OffspringGenerator
from search.evolution.settings import EvolutionSettings
from search.pareto import AP, Floats, best_first, check_known, fronts
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.space import SearchSpace


class Surrogate(Protocol):
    """Proposes archs by what it learned from scored ones."""

    def propose(
        self, genes: Genes, scores: Floats, parents: Genes, num: int, brood: Offspring, rng: np.random.Generator
    ) -> list[float] | None:
        """Add up to ``num`` new rows to ``brood`` and return their predicted APs; None while it knows too little."""
        ...


@dataclass(frozen=True)
class Task:
    """A candidate that is to be scored next, and on how many images."""

    candidate: Candidate
    num_images: int


class Evolution:
    """A search as a machine: :meth:`ask` says what to score next, :meth:`tell` takes a score in.

    All tasks of one list may be scored in any order or at once. What is proposed depends on the generator and on the
    scores of earlier lists only, so that a search that was stopped anywhere goes on as if it had not been.

    Args:
        space: What to draw from.
        model: Costs of archs.
        budget: What every scored arch keeps.
        settings: How to search.
        rng: The only source of randomness: an equal state gives an equal search.
        surrogate: Proposes archs besides mutation and crossover.

    Raises:
        UserError: An objective that is no cost.
    """

    def __init__(
        self,
        space: SearchSpace,
        model: CostModel,
        budget: Budget,
        settings: EvolutionSettings,
        rng: np.random.Generator,
        surrogate: Surrogate | None = None,
    ) -> None:
        check_known(settings.objectives, model.names)
        self.space, self.model, self.budget, self.settings = space, model, budget, settings
        self.rng, self.surrogate = rng, surrogate
        self.archive: list[Candidate] = []
        self._breeder = OffspringGenerator(space, model, budget, settings.breeding)
        self._genes: list[Genes] = []
        self._known: set[bytes] = set()
        self._exhausted = False

    def ask(self) -> list[Task]:
        """Return what to score next, none if the search is over; a new generation begins where all is scored."""
        found = self._unscored() or self._promoted()
        if not found and len(self.archive) < self.settings.num_evaluations and not self._exhausted:
            self._propose()
            found = self._unscored()
        return found

    def tell(self, order: int, score: Score) -> Candidate:
        """Take in the score of a task's candidate and return the candidate with it.

        Raises:
            ValueError: The AP is not finite.
        """
        candidate = self.archive[order]
        if not math.isfinite(score.ap):
            raise ValueError(f"the score of {candidate.arch.describe()} is {score.ap}; scores must be finite numbers")
        assert score.num_images == self.settings.num_images[len(candidate.scores)]
        self.archive[order] = candidate.scored(score)
        return self.archive[order]

    def ranked(self) -> list[Candidate]:
        """Return all scored candidates, best first.

        Those scored on more images come first, as they were the best of those scored on fewer; among those scored
        on equally many, the objectives decide.
        """
        found: list[Candidate] = []
        for rung in range(len(self.settings.num_images), 0, -1):
            members = [one for one in self.archive if len(one.scores) == rung]
            found += [members[i] for i in self._order(members, rung - 1)]
        return found

    def front(self) -> list[Candidate]:
        """Return the candidates that no other one scored on as many images dominates, among those with the most."""
        most = max((len(one.scores) for one in self.archive), default=0)
        members = [one for one in self.archive if one.scores and len(one.scores) == most]
        found = fronts(self._values(members, most - 1), np.zeros(len(members)))
        return [one for one, front in zip(members, found, strict=True) if front == 0]

    def state(self) -> dict[str, Any]:
        """Return plain values which, with the rows of what was scored, are all that :meth:`restore` needs."""
        pending = [one for one in self.archive if not one.scores]
        return {
            "rng": self.rng.bit_generator.state,
            "num_proposed": len(self.archive),
            "exhausted": self._exhausted,
            "pending": [
                {"order": one.order, "generation": one.generation, "origin": one.origin, "predicted": one.predicted}
                | {"arch": one.arch.to_dict()}
                for one in pending
            ],
        }

    def restore(self, state: Mapping[str, Any], scored: Sequence[Candidate]) -> None:
        """Go on from a state, saved after a call of :meth:`ask`, and the candidates scored before and since.

        Raises:
            ValueError: The scored candidates are not those of the state.
        """
        self.rng.bit_generator.state = state["rng"]
        self._exhausted = state["exhausted"]
        found = {one.order: one for one in scored}
        for one in state["pending"]:
            arch = Arch.from_dict(one["arch"])
            waiting = Candidate(
                arch, one["order"], one["generation"], one["origin"], self.model.of(arch), one["predicted"]
            )
            known = found.setdefault(one["order"], waiting)
            if known.arch != arch:
                raise ValueError(f"candidate {one['order']} is another arch than was proposed")
        self.archive = [found[order] for order in sorted(found)]
        if [one.order for one in self.archive] != list(range(state["num_proposed"])):
            raise ValueError(f"there are {len(found)} candidates of {state['num_proposed']} that were proposed")
        if self.archive:
            self._genes = list(self.space.encode([one.arch for one in self.archive]))
            self._known = {row.tobytes() for row in self._genes}

    def _unscored(self) -> list[Task]:
        return [Task(one, self.settings.num_images[0]) for one in self.archive if not one.scores]

    def _promoted(self) -> list[Task]:
        """The best of each number of images that were not scored on the next."""
        for rung, num_images in enumerate(self.settings.num_images[1:], start=1):
            members = [one for one in self.archive if len(one.scores) >= rung]
            chosen = self._order(members, rung - 1)[: math.ceil(self.settings.keep_share * len(members))]
            found = [Task(members[i], num_images) for i in sorted(chosen) if len(members[i].scores) == rung]
            if found:
                return found
        return []

    def _propose(self) -> None:
        """Add the next generation to the archive, unscored."""
        settings = self.settings
        num = min(settings.population, settings.num_evaluations - len(self.archive))
        brood, predicted = Offspring(set(self._known)), None
        if self.archive:
            share = 1.0 if len(settings.objectives) > 1 else settings.parent_share
            best = self.ranked()[: max(2, round(share * settings.population))]
            parents = np.stack([self._genes[one.order] for one in best])
            if self.surrogate:
                scores = np.array([one.scores[0].ap for one in self.archive])
                predicted = self.surrogate.propose(np.stack(self._genes), scores, parents, num, brood, self.rng)
            self._breeder.children(num - len(brood.rows), parents, brood, self.rng)
        else:
            self._breeder.random(num, brood, self.rng)
        self._exhausted = not brood.rows
        if self._exhausted:
            return
        rows = np.stack(brood.rows)
        costs = self.model(rows)
        generation = self.archive[-1].generation + 1 if self.archive else 0
        for i, (arch, origin) in enumerate(zip(self.space.decode(rows), brood.origins, strict=True)):
            own = {name: values[i].item() for name, values in costs.items()}
            foreseen = predicted[i] if predicted is not None and i < len(predicted) else None
            self.archive.append(Candidate(arch, len(self.archive), generation, origin, own, foreseen))
        self._genes += brood.rows
        self._known |= brood.known

    def _values(self, members: Sequence[Candidate], rung: int) -> Floats:
        """Objectives (N, M), lower is better, with APs on the images of one rung."""
        columns = [
            [-one.scores[rung].ap if name == AP else one.costs[name] for one in members]
            for name in self.settings.objectives
        ]
        return np.array(columns, np.float64).T.reshape(len(members), len(columns))

    def _order(self, members: Sequence[Candidate], rung: int) -> list[int]:
        order: list[int] = best_first(self._values(members, rung), np.zeros(len(members))).tolist()
        return order


def evolve(
    search: Evolution,
    score: Callable[[Sequence[Task]], Sequence[Score]],
    batch_size: int = 1,
    on_proposed: Callable[[], None] = lambda: None,
    on_scored: Callable[[Candidate], None] = lambda candidate: None,
    on_batch: Callable[[], None] = lambda: None,
) -> Result:
    """Run a search to its end.

    Args:
        search: New, or restored.
        score: Scores tasks; it sees archs within the budget only, and none twice on as many images.
        batch_size: Tasks that ``score`` gets at a time, at most.
        on_proposed: Called when there are new tasks, before the first is scored: time to keep the search's state.
        on_scored: Called with each candidate when it has been scored.
        on_batch: Called after each call of ``score``: what it raises ends the search.

    Raises:
        UserError: No arch that fits was found.
        ValueError: A score is not finite.
    """
    while tasks := search.ask():
        on_proposed()
        for start in range(0, len(tasks), batch_size):
            batch = tasks[start : start + batch_size]
            for task, found in zip(batch, score(batch), strict=True):
                on_scored(search.tell(task.candidate.order, found))
            on_batch()
    if not search.archive:
        raise UserError(f"no arch of space {search.space.name} fits the budget; allow more")
    front = search.front()
    if len(search.settings.objectives) == 1:
        front = search.ranked()[:1]
    return Result(max(front, key=lambda one: (one.ap, -one.order)), tuple(front), tuple(search.archive))
