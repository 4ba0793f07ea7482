"""Proposals by predicted scores: new, within the budget, and far better than the archs they were learnt from."""

import numpy as np
import pytest

from search.budget import Budget, CostModel
from search.evolution.offspring import Offspring, OffspringGenerator
from search.evolution.settings import BreedingSettings
from search.evolution.surrogate import PredictedProposals, PredictionSettings
from search.pareto import Floats
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.space import SearchSpace

SPACE = SearchSpace.load("litepose")
MODEL = CostModel(SPACE, 17)
BUDGET = Budget.from_mapping({"macs": "30%"}, MODEL)
BREEDER = OffspringGenerator(SPACE, MODEL, BUDGET, BreedingSettings())


class Exact:
    """Knows the score: the parameters, in millions."""

    fitted: tuple[int, int] | None = None

    def fit(self, genes: Genes, scores: Floats, rng: np.random.Generator) -> None:
        type(self).fitted = len(genes), len(scores)

    def predict(self, genes: Genes) -> Floats:
        found: Floats = MODEL(genes)["params"] / 1e6
        return found


def scored(num: int) -> tuple[Genes, Floats, Offspring]:
    brood = Offspring(set())
    BREEDER.random(num, brood, np.random.default_rng(0))
    genes = np.stack(brood.rows)
    return genes, Exact().predict(genes), Offspring(set(brood.known))


def test_it_proposes_new_archs_within_the_budget_better_than_all_it_knew() -> None:
    genes, scores, brood = scored(30)
    proposals = PredictedProposals(Exact, BREEDER, PredictionSettings(20, 800, 0.75))
    best = genes[np.argsort(-scores)[:10]]
    predicted = proposals.propose(genes, scores, best, 12, brood, np.random.default_rng(1))
    assert Exact.fitted == (30, 30)
    assert predicted is not None
    assert len(brood.rows) == 9
    rows = np.stack(brood.rows)
    assert predicted == Exact().predict(rows).tolist() == sorted(predicted, reverse=True)
    assert brood.origins == ["predicted"] * 9
    assert BUDGET.fits(MODEL(rows)).all()
    assert not {row.tobytes() for row in rows} & {row.tobytes() for row in genes}
    assert min(predicted) > scores.max()


def test_with_costs_among_the_objectives_it_proposes_trade_offs() -> None:
    genes, scores, brood = scored(30)
    proposals = PredictedProposals(Exact, BREEDER, PredictionSettings(20, 800, 1.0), ("ap", "macs"))
    proposals.propose(genes, scores, genes, 12, brood, np.random.default_rng(1))
    found = MODEL(np.stack(brood.rows))
    assert len(brood.rows) == 12
    assert found["macs"].min() < MODEL(genes)["macs"].min()
    assert found["params"].max() > MODEL(genes)["params"].max()


def test_it_keeps_silent_until_enough_is_scored() -> None:
    genes, scores, brood = scored(19)
    proposals = PredictedProposals(Exact, BREEDER, PredictionSettings(20, 100))
    assert proposals.propose(genes, scores, genes, 12, brood, np.random.default_rng(1)) is None
    assert brood.rows == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"first": 9}, r"prediction\.first is 9; it must be at least 10"),
        ({"num_candidates": 0}, r"prediction\.num_candidates is 0; it must be at least 1"),
        ({"share": 0.0}, r"prediction\.share is 0\.0; it must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        PredictionSettings(**options)  # type: ignore[arg-type]
