"""Evolutionary search within a budget for the highest AP, or for the best trade-offs of AP and costs (no torch).

Source: Once-for-All (arXiv 1908.09791), section 3.4 and its published settings (population 100, a quarter as parents,
half of the children by mutation at rate 0.1, half by crossover), which LitePose (arXiv 2205.01271) follows; with
several objectives NSGA-II (Deb et al. 2002). Differences:

- No arch is scored twice.
- Parents are the best of all archs scored so far, not of the last generation, so a good arch is never lost.
- Archs outside the budget are never scored: they are drawn again, or changed step by step until they fit.
- More children are mutations, at half the rate but with at least one change, which
  ``scripts/studies/search_engines.py`` found to be better.
- Successive halving (Jamieson and Talwalkar 2016; over all generations as in ASHA, Li et al. 2020): the best of the
  archs scored on few images are scored on more.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from search.budget import Budget
from search.candidate import Candidate, Result, Score
from search.evolution.offspring import Offspring, OffspringGenerator
from search.evolution.settings import EvolutionSettings
from search.objectives import AP, check_known
from search.pareto import Floats, best_first, fronts
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.genes import Genes


class Surrogate(Protocol):
    """Proposes archs from the scores so far."""

    def propose(
        self, genes: Genes, scores: Floats, parents: Genes, num: int, offspring: Offspring, rng: np.random.Generator
    ) -> list[float] | None:
        """Add up to ``num`` rows to ``offspring``; return their predicted APs, or None if too few archs are scored."""
        ...


@dataclass(frozen=True)
class Task:
    """A candidate to score next, and the number of images to score it on."""

    candidate: Candidate
    num_images: int


class Evolution:
    """An evolutionary search with an ask-and-tell interface.

    :meth:`ask` returns a list of tasks, :meth:`tell` records the score of one. The tasks of a list may be scored in any
    order or at once: proposals depend on the random state and the scores of earlier lists only. A search that is
    interrupted anywhere and restored therefore continues as if it had not been interrupted.

    Args:
        budget: Bounds that every proposed arch meets, in the space that is searched.
        settings: Settings of the search.
        rng: The only source of randomness: equal states give equal searches.
        surrogate: Proposes archs in addition to mutation and crossover.

    Raises:
        UserError: An objective is neither AP nor a cost.
    """

    def __init__(
        self,
        budget: Budget,
        settings: EvolutionSettings,
        rng: np.random.Generator,
        surrogate: Surrogate | None = None,
    ) -> None:
        check_known(settings.objectives, budget.model.names)
        self.space, self.model, self.settings = budget.model.space, budget.model, settings
        self.rng, self.surrogate = rng, surrogate
        self.archive: list[Candidate] = []
        self._generator = OffspringGenerator(budget, settings.offspring)
        self._genes: list[Genes] = []
        self._known: set[bytes] = set()
        self._exhausted = False

    def ask(self) -> list[Task]:
        """Return the tasks to score next, none if the search is over; starts a generation if all tasks are scored."""
        tasks = self._unscored() or self._promoted()
        if not tasks and len(self.archive) < self.settings.num_evaluations and not self._exhausted:
            self._propose()
            tasks = self._unscored()
        return tasks

    def tell(self, order: int, score: Score) -> Candidate:
        """Record the score of the candidate number ``order`` and return the updated candidate.

        Raises:
            ValueError: The AP is not finite.
        """
        candidate = self.archive[order]
        if not math.isfinite(score.ap):
            raise ValueError(f"the score of {candidate.arch.describe()} must be a finite number, got {score.ap}")
        assert score.num_images == self.settings.num_images[len(candidate.scores)]
        self.archive[order] = candidate.scored(score)
        return self.archive[order]

    def ranked(self) -> list[Candidate]:
        """Return all scored candidates, best first.

        Candidates scored on more images come first, because they were the best of those scored on fewer; the
        objectives rank candidates scored on equally many.
        """
        ranked: list[Candidate] = []
        for num_scores in range(len(self.settings.num_images), 0, -1):
            members = [candidate for candidate in self.archive if len(candidate.scores) == num_scores]
            ranked += [members[i] for i in self._order(members, num_scores - 1)]
        return ranked

    def front(self) -> list[Candidate]:
        """Return the non-dominated candidates among those scored on the most images."""
        most = max((len(candidate.scores) for candidate in self.archive), default=0)
        members = [candidate for candidate in self.archive if candidate.scores and len(candidate.scores) == most]
        numbers = fronts(self._values(members, most - 1), np.zeros(len(members)))
        return [candidate for candidate, number in zip(members, numbers, strict=True) if number == 0]

    def result(self) -> Result:
        """Return the best candidate, the front, and all candidates.

        Raises:
            UserError: No arch within the budget was found.
        """
        if not self.archive:
            raise UserError(f"no arch of space {self.space.name} within the budget was found; loosen the budget")
        front = self.front() if len(self.settings.objectives) > 1 else self.ranked()[:1]
        best = max(front, key=lambda candidate: (candidate.ap, -candidate.order))
        return Result(best, tuple(front), tuple(self.archive))

    def state(self) -> dict[str, Any]:
        """Return the state as plain values; :meth:`restore` needs these and the rows of the scored candidates."""
        return {
            "rng": self.rng.bit_generator.state,
            "num_proposed": len(self.archive),
            "exhausted": self._exhausted,
            "pending": [
                {
                    "order": candidate.order,
                    "generation": candidate.generation,
                    "origin": candidate.origin,
                    "predicted": candidate.predicted,
                    "arch": candidate.arch.to_dict(),
                }
                for candidate in self.archive
                if not candidate.scores
            ],
        }

    def restore(self, state: Mapping[str, Any], scored: Sequence[Candidate]) -> None:
        """Continue from a state.

        Args:
            state: Result of :meth:`state`, taken after a call of :meth:`ask`.
            scored: The candidates scored before and since.

        Raises:
            ValueError: The scored candidates do not belong to the state.
        """
        self.rng.bit_generator.state = state["rng"]
        self._exhausted = state["exhausted"]
        by_order = {candidate.order: candidate for candidate in scored}
        for row in state["pending"]:
            arch = Arch.from_dict(row["arch"])
            pending = Candidate(
                arch, row["order"], row["generation"], row["origin"], self.model.of(arch), row["predicted"]
            )
            if by_order.setdefault(row["order"], pending).arch != arch:
                raise ValueError(f"candidate {row['order']} is another arch than was proposed")
        self.archive = [by_order[order] for order in sorted(by_order)]
        if [candidate.order for candidate in self.archive] != list(range(state["num_proposed"])):
            raise ValueError(f"there are {len(by_order)} of {state['num_proposed']} proposed candidates")
        if self.archive:
            self._genes = list(self.space.encode([candidate.arch for candidate in self.archive]))
            self._known = {row.tobytes() for row in self._genes}

    def _unscored(self) -> list[Task]:
        num_images = self.settings.num_images[0]
        return [Task(candidate, num_images) for candidate in self.archive if not candidate.scores]

    def _promoted(self) -> list[Task]:
        """Return the best candidates of the lowest rung that has any not yet scored on the next."""
        for rung, num_images in enumerate(self.settings.num_images[1:], start=1):
            members = [candidate for candidate in self.archive if len(candidate.scores) >= rung]
            chosen = self._order(members, rung - 1)[: math.ceil(self.settings.keep_share * len(members))]
            tasks = [Task(members[i], num_images) for i in sorted(chosen) if len(members[i].scores) == rung]
            if tasks:
                return tasks
        return []

    def _propose(self) -> None:
        """Add the next generation to the archive, unscored."""
        settings = self.settings
        num = min(settings.population, settings.num_evaluations - len(self.archive))
        offspring, predicted = Offspring(set(self._known)), None
        if self.archive:
            share = 1.0 if len(settings.objectives) > 1 else settings.parent_share
            best = self.ranked()[: max(2, round(share * settings.population))]
            parents = np.stack([self._genes[candidate.order] for candidate in best])
            if self.surrogate:
                scores = np.array([candidate.scores[0].ap for candidate in self.archive])
                predicted = self.surrogate.propose(np.stack(self._genes), scores, parents, num, offspring, self.rng)
            self._generator.children(num - len(offspring.rows), parents, offspring, self.rng)
        else:
            self._generator.random(num, offspring, self.rng)
        self._exhausted = not offspring.rows
        if not self._exhausted:
            self._append(offspring, predicted or [])

    def _append(self, offspring: Offspring, predicted: Sequence[float]) -> None:
        """Append a generation to the archive; ``predicted`` are the APs of its first rows."""
        rows = np.stack(offspring.rows)
        costs = self.model(rows)
        generation = self.archive[-1].generation + 1 if self.archive else 0
        for i, (arch, origin) in enumerate(zip(self.space.decode(rows), offspring.origins, strict=True)):
            arch_costs = {name: values[i].item() for name, values in costs.items()}
            predicted_ap = predicted[i] if i < len(predicted) else None
            self.archive.append(Candidate(arch, len(self.archive), generation, origin, arch_costs, predicted_ap))
        self._genes += offspring.rows
        self._known |= offspring.known

    def _values(self, members: Sequence[Candidate], rung: int) -> Floats:
        """Return objectives (N, M), lower is better, with APs on the images of one rung."""
        columns = [
            [-member.scores[rung].ap if name == AP else member.costs[name] for member in members]
            for name in self.settings.objectives
        ]
        return np.array(columns, np.float64).T.reshape(len(members), len(columns))

    def _order(self, members: Sequence[Candidate], rung: int) -> list[int]:
        order: list[int] = best_first(self._values(members, rung), np.zeros(len(members))).tolist()
        return order


def evolve(search: Evolution, score: Callable[[Sequence[Task]], Sequence[Score]], batch_size: int = 1) -> Result:
    """Run a search to its end.

    Args:
        search: A new or restored search.
        score: Returns the score of each task. It gets archs within the budget only, and none twice with the same
            number of images.
        batch_size: Maximum number of tasks that ``score`` gets at a time.

    Raises:
        UserError: No arch within the budget was found.
        ValueError: A score is not finite.
    """
    while tasks := search.ask():
        for batch in batched(tasks, batch_size):
            for task, task_score in zip(batch, score(batch), strict=True):
                search.tell(task.candidate.order, task_score)
    return search.result()


def batched(tasks: Sequence[Task], batch_size: int) -> list[Sequence[Task]]:
    """Split tasks into batches of at most ``batch_size``."""
    return [tasks[start : start + batch_size] for start in range(0, len(tasks), batch_size)]
