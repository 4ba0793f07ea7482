"""A latency table is a cost like any other: a budget can bound it."""

import numpy as np
import pytest

from search.budget import Budget, CostModel
from supernet.errors import UserError
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE, fake_table, network_ms


def test_a_latency_bound_is_kept_by_exactly_the_archs_within_it() -> None:
    model = CostModel(SPACE, NUM_KEYPOINTS, fake_table())
    genes = SPACE.layout.sample(np.random.default_rng(0), 300)
    times = np.array([network_ms(arch) for arch in SPACE.decode(genes)])
    limit = float(np.median(times))
    budget = Budget.from_mapping({"latency": f"{limit:.6f}ms"}, model)
    budget.check_reachable()
    np.testing.assert_array_equal(budget.fits(model(genes)), times <= float(f"{limit:.6f}"))
    with pytest.raises(UserError, match="no subnet of space tiny with latency up to 1 ms"):
        Budget.from_mapping({"latency": "1ms"}, model).check_reachable()
    with pytest.raises(UserError, match="num_keypoints of the latency table is 14"):
        CostModel(SPACE, 17, fake_table())
