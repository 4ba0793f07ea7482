"""Proposals by predicted scores: new, within the budget, and far better than the archs of the training set."""

import numpy as np
import pytest

from search.budget import Budget, CostModel
from search.evolution.offspring import Offspring, OffspringGenerator
from search.evolution.settings import OffspringSettings
from search.evolution.surrogate import PredictedProposals, PredictionSettings
from search.pareto import Floats
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.space import SearchSpace

SPACE = SearchSpace.load("litepose")
MODEL = CostModel(SPACE, 17)
BUDGET = Budget.from_mapping({"macs": "30%"}, MODEL)
GENERATOR = OffspringGenerator(BUDGET, OffspringSettings())


class Exact:
    """A predictor that knows the score: the parameters, in millions."""

    fitted: tuple[int, int] | None = None

    def fit(self, genes: Genes, scores: Floats, rng: np.random.Generator) -> None:
        type(self).fitted = len(genes), len(scores)

    def predict(self, genes: Genes) -> Floats:
        millions: Floats = MODEL(genes)["params"] / 1e6
        return millions


def scored(num: int) -> tuple[Genes, Floats, Offspring]:
    offspring = Offspring(set())
    GENERATOR.random(num, offspring, np.random.default_rng(0))
    genes = np.stack(offspring.rows)
    return genes, Exact().predict(genes), Offspring(set(offspring.known))


def test_it_proposes_new_archs_within_the_budget_better_than_all_it_knew() -> None:
    genes, scores, offspring = scored(30)
    proposals = PredictedProposals(Exact, GENERATOR, PredictionSettings(20, 800, 0.75))
    best = genes[np.argsort(-scores)[:10]]
    predicted = proposals.propose(genes, scores, best, 12, offspring, np.random.default_rng(1))
    assert Exact.fitted == (30, 30)
    assert predicted is not None
    assert len(offspring.rows) == 9
    rows = np.stack(offspring.rows)
    assert predicted == Exact().predict(rows).tolist() == sorted(predicted, reverse=True)
    assert offspring.origins == ["predicted"] * 9
    assert BUDGET.fits(MODEL(rows)).all()
    assert not {row.tobytes() for row in rows} & {row.tobytes() for row in genes}
    assert min(predicted) > scores.max()


def test_with_costs_among_the_objectives_it_proposes_trade_offs() -> None:
    genes, scores, offspring = scored(30)
    proposals = PredictedProposals(Exact, GENERATOR, PredictionSettings(20, 800, 1.0), ("ap", "macs"))
    proposals.propose(genes, scores, genes, 12, offspring, np.random.default_rng(1))
    costs = MODEL(np.stack(offspring.rows))
    assert len(offspring.rows) == 12
    assert costs["macs"].min() < MODEL(genes)["macs"].min()
    assert costs["params"].max() > MODEL(genes)["params"].max()


def test_it_proposes_nothing_until_enough_is_scored() -> None:
    genes, scores, offspring = scored(19)
    proposals = PredictedProposals(Exact, GENERATOR, PredictionSettings(20, 100))
    assert proposals.propose(genes, scores, genes, 12, offspring, np.random.default_rng(1)) is None
    assert offspring.rows == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 9}, r"prediction\.first .*9"),
        ({"num_candidates": 0}, r"prediction\.num_candidates .*0"),
        ({"share": 0.0}, r"prediction\.share .*0\.0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PredictionSettings(**options)  # type: ignore[arg-type]
