"""Budgets: which archs fit, and impossible budgets are refused before any work."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from search import feasibility
from search.budget import Budget, CostModel, shown_bound
from search.cost import COSTS
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.space import SearchSpace

ROOT = Path(__file__).parents[2]
NANO, FULL = SearchSpace.load("nano"), SearchSpace.load("litepose")
MODEL = CostModel(NANO, 17)
GENES = NANO.layout.sample(np.random.default_rng(0), 300)
BOUND_OF = {**dict(zip(COSTS, COSTS, strict=True)), "weight_bytes": "weights"}
UNIT_OF = {"memory": "B", "weight_bytes": "B"}
ENTRIES = json.loads((ROOT / "tests" / "golden" / "costs.json").read_text())


class Table:
    """A fake latency table: one millisecond per 10 px and half a millisecond per gene above 0."""

    def check(self, space: SearchSpace, num_keypoints: int) -> None:
        if space != NANO:
            raise UserError("the table is of another space")

    def latency_ms(self, space: SearchSpace, genes: NDArray[Any]) -> NDArray[np.float64]:
        resolutions = np.array(space.resolutions)[genes[:, 0]]
        latencies: NDArray[np.float64] = resolutions / 10 + 0.5 * (genes > 0).sum(axis=1)
        return latencies


TIMED = CostModel(NANO, 17, Table())


def budget(**constraint: Any) -> Budget:
    return Budget.from_mapping(constraint, MODEL)


def timed(**constraint: Any) -> Budget:
    return Budget.from_mapping(constraint, TIMED)


def test_a_model_gives_one_and_many_the_same_costs() -> None:
    assert MODEL.names == tuple(COSTS)
    many, archs = TIMED(GENES), NANO.decode(GENES)
    assert tuple(many) == TIMED.names == (*COSTS, "latency_ms")
    for i, arch in enumerate(archs[:30]):
        assert TIMED.of(arch) == {name: values[i] for name, values in many.items()}
    with pytest.raises(UserError, match="the table is of another space"):
        CostModel(FULL, 17, Table())


@pytest.mark.parametrize("space", [NANO, FULL], ids=["nano", "litepose"])
def test_no_arch_lies_outside_the_reachable_range(space: SearchSpace) -> None:
    model = CostModel(space, 17)
    values = model(space.layout.sample(np.random.default_rng(0), 2000))
    for cost, (least, greatest) in model.extremes.items():
        assert least <= values[cost].min() <= values[cost].max() <= greatest


@pytest.mark.parametrize("name", COSTS)
def test_bounds_are_inclusive(name: str) -> None:
    arch, bound, unit = NANO.smallest(), BOUND_OF[name], UNIT_OF.get(name, "")
    value = COSTS[name](arch, 17)
    assert budget(**{bound: f"{value}{unit}"}).fits_arch(arch)
    assert not budget(**{bound: f"{value - 1}{unit}"}).fits_arch(arch)
    assert budget(**{f"min_{bound}": f"{value}{unit}"}).fits_arch(arch)
    assert not budget(**{f"min_{bound}": f"{value + 1}{unit}"}).fits_arch(arch)


def test_a_mix_of_bounds_is_met_where_each_is() -> None:
    mixed = timed(macs="120M", min_params="300K", latency="40ms", memory="1.7MB")
    values = TIMED(GENES)
    expected = (values["macs"] <= 120e6) & (values["params"] >= 300e3) & (values["latency_ms"] <= 40)
    expected &= values["memory"] <= 1.7e6
    assert 0 < expected.sum() < len(expected)
    assert mixed.fits(values).tolist() == expected.tolist()
    assert [mixed.fits_arch(arch) for arch in NANO.decode(GENES)] == expected.tolist()
    missed = np.maximum(values["macs"] / 120e6 - 1, 0) + np.maximum(1 - values["params"] / 300e3, 0)
    missed += np.maximum(values["latency_ms"] / 40 - 1, 0) + np.maximum(values["memory"] / 1.7e6 - 1, 0)
    assert mixed.violation(values) == pytest.approx(missed, abs=1e-12)


def test_a_share_is_one_of_the_largest_archs_costs() -> None:
    largest = COSTS["macs"](NANO.largest(), 17)
    values = budget(macs="40%", min_macs="10.5%").to_dict()
    assert values == {"macs": largest * 40 // 100, "min_macs": -(-largest * 105 // 1000)}


def test_fractions_of_one_never_loosen_a_bound() -> None:
    assert budget(macs="1000.9", min_macs="900.1").to_dict() == {"macs": 1000, "min_macs": 901}


@pytest.mark.parametrize(("text", "value"), [("30ms", 30), ("0.03s", 30), ("900us", 0.9)])
def test_latencies_are_milliseconds(text: str, value: float) -> None:
    assert timed(latency=text).to_dict() == {"latency": value}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("macs", 80_000_000, "80 M"),
        ("memory", 64_000_000, "64 MB"),
        ("min_weights", 12_000_000, "12 MB"),
        ("latency", 100 / 3, "33.33 ms"),
        ("latency", "30ms", "30ms"),
        ("watts", 5, "5"),
        ("macs", float("nan"), "nan"),
    ],
)
def test_a_bound_in_a_file_is_shown_with_its_unit(name: str, value: Any, text: str) -> None:
    assert shown_bound(name, value) == text


def test_no_bound_lets_everything_through() -> None:
    none = budget(macs=None, min_latency=None)
    assert none.bounds == ()
    assert none.fits(MODEL(GENES)).all()
    none.check_reachable()


@pytest.mark.parametrize("name", COSTS)
def test_an_impossible_bound_is_refused_with_the_range_and_the_nearest_arch(name: str) -> None:
    bound, unit = BOUND_OF[name], UNIT_OF.get(name, "")
    least, greatest = (COSTS[name](arch, 17) for arch in (NANO.smallest(), NANO.largest()))
    low = budget(**{bound: f"{least}{unit}"}).bounds[0].show(rounding="up")
    high = budget(**{bound: f"{greatest}{unit}"}).bounds[0].show(rounding="down")
    with pytest.raises(UserError) as caught:
        budget(**{bound: f"10K{unit}"}).check_reachable()
    assert str(caught.value) == (
        f"constraint.{bound}=10K{unit} is below the smallest subnet of space nano ({low}); "
        f"reachable are {low} to {high}; the nearest arch is {NANO.smallest().describe()}"
    )
    with pytest.raises(UserError, match=re.escape(f"constraint.min_{bound}=90G{unit} is above the largest subnet")):
        budget(**{f"min_{bound}": f"90G{unit}"}).check_reachable()
    budget(**{bound: low}).check_reachable()  # what the sentence offers is accepted
    budget(**{f"min_{bound}": high}).check_reachable()


def test_bounds_that_no_corner_meets_are_searched_for() -> None:
    budget(macs="60M", min_params="250K").check_reachable()
    message = r"no subnet of space nano with macs up to 54 M, params from 800 K was found among [\d,]+ tried"
    with pytest.raises(UserError, match=message):
        budget(macs="54M", min_params="800K").check_reachable()


def test_a_narrow_budget_is_searched_for_from_several_starts() -> None:
    narrow = budget(macs="82736128", min_macs="82570655", params="525472", min_params="524421")
    narrow.check_reachable()


def test_a_space_of_one_arch_has_no_neighbours_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feasibility, "MAX_TRIED", 5_000)
    stages = [
        replace(stage, widths=stage.widths[:1], depths=(1,), expand_ratios=(3,), kernel_sizes=(3,))
        for stage in NANO.stages
    ]
    deconv_widths = tuple(widths[:1] for widths in NANO.deconv_widths)
    space = replace(NANO, resolutions=(128,), stages=tuple(stages), deconv_widths=deconv_widths)
    found = feasibility.nearest(space, lambda genes: np.full(len(genes), 0.5))
    assert (found.arch, found.violation) == (space.smallest(), 0.5)


@pytest.mark.parametrize(
    ("constraint", "named"),
    [
        ({"mac": "1G"}, "there is no bound constraint.mac; did you mean constraint.macs?"),
        ({"min_parms": "1G"}, "there is no bound constraint.min_parms; did you mean constraint.min_params?"),
        ({"watts": "1G"}, "there is no bound constraint.watts; choose among macs, macs_paper, params, memory"),
        ({"latency": "30ms"}, "constraint.latency needs a latency table"),
        ({"macs": "1G", "min_macs": "2G"}, "constraint.min_macs=2G is above constraint.macs=1G"),
        ({"macs": "5GB"}, "constraint.macs is '5GB'; give a number from 1"),
        ({"latency": 30}, "constraint.latency is 30; give a time with its unit, us, ms or s (30ms)"),
    ],
)
def test_wrong_constraints_are_refused(constraint: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=re.escape(named)):
        Budget.from_mapping(constraint, MODEL)


def test_equal_budgets_are_one_key() -> None:
    assert len({budget(macs=text) for text in ("60M", "0.06G", 6e7)}) == 1


@pytest.mark.parametrize("preset", ["xs", "s", "m", "l"])
def test_a_preset_holds_its_published_arch(preset: str) -> None:
    text = yaml.safe_load((ROOT / "conf" / "constraint" / f"{preset}.yaml").read_text())["macs_paper"]
    published = [entry for entry in ENTRIES if entry["name"] == f"search-{preset.upper()}"]
    assert {entry["joints"] for entry in published} == {14, 17}
    for entry in published:
        assert Budget.from_mapping({"macs_paper": text}, CostModel(FULL, entry["joints"])).fits_arch(
            Arch.from_dict(entry["arch"])
        )
