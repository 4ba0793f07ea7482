"""The simulated schedules of searches, against what can be counted by hand."""

import pytest

from scripts.studies.search_scaling import Times, evolve, optuna, rounds, table


def times(scores: list[float], **changes: float) -> Times:
    values = {"start": 0.0, "propose": 0.0, "save": 0.0, "optuna_propose": 0.0, "optuna_per_trial": 0.0}
    return Times(scores=scores, final_ratio=0.0, others={}, **{**values, **changes})


def test_a_round_takes_as_long_as_its_busiest_process() -> None:
    assert rounds([1.0, 2.0, 3.0, 5.0], 2) == (7.0, 1.5)  # 1 + 3 and 2 + 5
    assert rounds([1.0, 2.0], 4) == (2.0, 2.0 - 0.75)
    assert rounds([4.0], 1) == (4.0, 0.0)


def test_equal_scores_that_fill_all_processes_scale_perfectly() -> None:
    for simulated in (evolve(times([2.0]), [2.0] * 32, 16, 8), optuna(times([2.0]), [2.0] * 32, 8)):
        assert simulated.seconds == pytest.approx(32 * 2.0 / 8)
        assert (simulated.waits, simulated.final) == (0.0, 0.0)


def test_a_generation_smaller_than_the_processes_leaves_some_idle() -> None:
    simulated = evolve(times([1.0]), [1.0] * 24, 12, 32)
    assert simulated.seconds == pytest.approx(2.0)  # two generations, one score each
    assert simulated.scores == pytest.approx(24 / 32)
    assert simulated.bottleneck() == "waits"


def test_batches_wait_for_the_slowest_and_free_workers_do_not() -> None:
    durations = [9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert optuna(times(durations), durations, 2).seconds == pytest.approx(9.0)
    assert evolve(times(durations), durations, 10, 2).seconds == pytest.approx(9 + 1 + 1 + 1 + 1)


def test_what_is_not_shared_limits_the_speed() -> None:
    recorded = times([1.0], start=5.0, propose=0.25, save=0.25, optuna_propose=0.5)
    assert evolve(recorded, [1.0] * 32, 32, 32).seconds == pytest.approx(5 + 32 * 0.5 + 1)
    assert optuna(recorded, [1.0] * 32, 32).seconds == pytest.approx(5 + 0.75 + 1)


def test_the_final_check_has_too_few_subnets_for_many_processes() -> None:
    recorded = Times([1.0], 0.0, 0.0, 0.0, 0.0, 0.0, final_ratio=2.0, others={})
    assert evolve(recorded, [1.0] * 64, 64, 1).seconds == pytest.approx(64 + 2 * 14)
    assert evolve(recorded, [1.0] * 64, 64, 32).seconds == pytest.approx(2 + 2 * 2)
    assert optuna(recorded, [1.0] * 64, 32).seconds == pytest.approx(2 + 2 * 14)


def test_every_engine_has_a_row_for_every_number_of_processes() -> None:
    rows = table(times([1.0, 2.0]), 12, 5)
    assert [row["workers"] for row in rows] == [1, 2, 4, 8, 16, 32] * 2
    assert rows[0]["speedup"] == rows[6]["speedup"] == 1.0
    assert all(row["speedup"] <= row["workers"] for row in rows)
