"""The seconds of the stages of an evaluation add up, and the slowest stage is named."""

import pytest

from supernet.pose.metrics.stage_times import STAGES, StageTimes


def test_times_of_processes_add_up_and_the_slowest_stage_has_its_share() -> None:
    first, second = StageTimes(), StageTimes()
    first.seconds |= {"loading": 1.0, "network": 2.0}
    second.seconds |= {"network": 4.0, "grouping": 1.0}
    first.add(second)
    summary = first.summary()
    assert summary["seconds"] == {"loading": 1, "network": 6, "transfer": 0, "grouping": 1, "ap": 0}
    assert summary["slowest"] == "network"
    assert summary["share_of_slowest"] == pytest.approx(6 / 8)


def test_a_stage_is_measured_also_when_it_fails() -> None:
    times = StageTimes()
    with pytest.raises(ValueError, match="broken"), times.measure("loading"):
        raise ValueError("broken")
    assert times.seconds["loading"] > 0
    assert sum(times.seconds.values()) == times.seconds["loading"]


def test_nothing_measured_has_no_share() -> None:
    assert StageTimes().summary() == {
        "seconds": dict.fromkeys(STAGES, 0),
        "slowest": "loading",
        "share_of_slowest": 0,
    }
