"""Genetic operators on gene rows: results are in the space, inherit as they should, and repair meets the budget."""

import numpy as np
import pytest

from search.budget import Budget, CostModel
from search.evolution.operators import GeneticOperators
from supernet.genes import Genes
from supernet.space import SearchSpace

SPACES = [SearchSpace.load("nano"), SearchSpace.load("litepose")]


@pytest.fixture(params=SPACES, ids=lambda space: str(space.name))
def space(request: pytest.FixtureRequest) -> SearchSpace:
    assert isinstance(request.param, SearchSpace)
    return request.param


def drawn(space: SearchSpace, num: int, seed: int = 0) -> Genes:
    return space.layout.sample(np.random.default_rng(seed), num)


def is_canonical(space: SearchSpace, rows: Genes) -> bool:
    return bool((space.encode(space.decode(rows)) == rows).all())


def test_every_varied_row_stands_for_an_arch_of_the_space(space: SearchSpace) -> None:
    operators, rng = GeneticOperators(space), np.random.default_rng(0)
    rows = drawn(space, 50)
    for varied in (
        operators.sample(rng, 50),
        operators.mutate(rows, rng, 0.5),
        operators.crossover(rows, rows[::-1], rng),
    ):
        assert is_canonical(space, varied)


def test_a_mutation_changes_at_least_one_gene_and_about_its_rate(space: SearchSpace) -> None:
    operators, rng = GeneticOperators(space), np.random.default_rng(0)
    deepest = np.repeat(space.encode([space.largest()]), 400, 0)
    mutated = operators.mutate(deepest, rng, 0.0)
    assert ((mutated != deepest) & (mutated >= 0)).sum(1).tolist() == [1] * 400  # blocks may vanish as well
    free = space.layout.num_choices > 1
    depths = [columns.depth for columns in space.layout.stages]
    blocks = [column for columns in space.layout.stages for column in columns.blocks]
    others = free & ~np.isin(np.arange(len(free)), depths + blocks + [column + 1 for column in blocks])
    changed = (operators.mutate(deepest, rng, 0.5) != deepest)[:, others]
    assert changed.mean() == pytest.approx(0.5, abs=4 * (0.25 / changed.size) ** 0.5)


def test_a_block_that_a_mutation_adds_is_drawn_from_all_choices(space: SearchSpace) -> None:
    operators, rng = GeneticOperators(space), np.random.default_rng(0)
    shallow = np.repeat(space.encode([space.smallest()]), 3000, 0)
    grown = operators.mutate(shallow, rng, 0.3)
    columns = space.layout.stages[2]
    last = columns.blocks[-1]
    added = grown[grown[:, last] >= 0, last]
    num_choices = space.layout.num_choices[last]
    assert len(added) > 50
    counts = np.bincount(added, minlength=num_choices) / len(added)
    assert counts == pytest.approx(1 / num_choices, abs=4 * (0.25 / len(added)) ** 0.5)


def test_a_child_of_two_has_every_gene_from_one_of_them(space: SearchSpace) -> None:
    operators, rng = GeneticOperators(space), np.random.default_rng(0)
    first, second = drawn(space, 300, 1), drawn(space, 300, 2)
    child = operators.crossover(first, second, rng)
    present = child >= 0
    assert ((child == first) | (child == second) | ~present).all()
    apart = (first != second) & (first >= 0) & (second >= 0) & present
    share = (child == first)[apart].mean()
    assert share == pytest.approx(0.5, abs=4 * (0.25 / apart.sum()) ** 0.5)


@pytest.mark.parametrize("constraint", [{"macs": "10%"}, {"min_macs": "60%", "macs": "61%"}])
def test_repair_brings_rows_within_the_budget_and_leaves_those_that_are(
    space: SearchSpace, constraint: dict[str, str]
) -> None:
    model = CostModel(space, 17)
    if space.name == "nano" and "min_macs" not in constraint:
        constraint = {"macs": "30%"}  # its smallest arch has a quarter of the MACs of its largest
    budget = Budget.from_mapping(constraint, model)

    def violation(rows: Genes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return budget.violation(model(rows))

    operators, rows = GeneticOperators(space), drawn(space, 200)
    before = rows.copy()
    repaired = operators.repair(rows, violation, np.random.default_rng(0))
    assert (rows == before).all()
    assert is_canonical(space, repaired)
    fitting = violation(rows) == 0
    assert (repaired[fitting] == rows[fitting]).all()
    assert (violation(repaired) == 0).mean() > 0.9
    assert len(np.unique(repaired, axis=0)) > 150


def test_repair_of_what_cannot_be_repaired_ends(space: SearchSpace) -> None:
    rows = drawn(space, 5)
    repaired = GeneticOperators(space).repair(rows, lambda rows: np.ones(len(rows)), np.random.default_rng(0))
    assert (repaired == rows).all()
