"""A latency table predicts sums over blocks, and refuses what it cannot predict or what cannot be a table."""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supernet.arch import Arch
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from supernet.space import SearchSpace
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE, enumerate_archs, made_up_table, network_ms

Json = dict[str, Any]


def genes_of(space: SearchSpace, archs: list[Arch]) -> np.ndarray:
    """Genes from their description: indices of choices, -1 for blocks past the depth."""
    rows = []
    for arch in archs:
        row = [space.resolutions.index(arch.resolution), space.stem_widths.index(arch.stem_width)]
        for stage, choices in zip(arch.stages, space.stages, strict=True):
            row += [choices.widths.index(stage.width), choices.depths.index(stage.depth)]
            for ratio, kernel_size in stage.blocks():
                row += [choices.expand_ratios.index(ratio), choices.kernel_sizes.index(kernel_size)]
            row += [-1, -1] * (choices.depths[-1] - stage.depth)
        row += [widths.index(width) for width, widths in zip(arch.deconv_widths, space.deconv_widths, strict=True)]
        rows.append(row)
    return np.array(rows, np.int16)


def test_predictions_of_every_arch_are_the_formula() -> None:
    archs = list(enumerate_archs(SPACE))
    expected = np.array([network_ms(arch) for arch in archs])
    table = made_up_table()
    np.testing.assert_allclose(table.latency_ms(SPACE, genes_of(SPACE, archs)), expected, rtol=1e-12)
    np.testing.assert_allclose([table.predict_ms(arch) for arch in archs], expected, rtol=1e-12)
    assert table.latency_ms(SPACE, genes_of(SPACE, [])[:0].reshape(0, genes_of(SPACE, archs[:1]).shape[1])).shape == (
        0,
    )


def test_predictions_in_the_full_space_agree_one_by_one_and_all_at_once() -> None:
    space, rng = SearchSpace.load("litepose"), np.random.default_rng(0)
    archs = [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(50))]
    table = made_up_table(space)
    found = table.latency_ms(space, genes_of(space, archs))
    np.testing.assert_allclose(found, [network_ms(arch) for arch in archs], rtol=1e-12)


def test_a_table_is_read_back_as_it_was(tmp_path: Path) -> None:
    table, path = made_up_table(), tmp_path / "table.json"
    path.write_text(json.dumps(table.to_dict()))
    read = LatencyTable.load(path)
    assert read.to_dict() == table.to_dict()
    assert dict(read.entries) == dict(table.entries)
    assert read.networks == table.networks
    assert "2 threads" in read.describe()


def test_a_table_serves_its_space_and_parts_of_its_resolutions() -> None:
    table = made_up_table()
    part = replace(SPACE, name="other name", resolutions=(96,))
    table.check(SPACE, NUM_KEYPOINTS)
    table.check(part, NUM_KEYPOINTS)
    arch = part.largest()
    assert table.latency_ms(part, genes_of(part, [arch]))[0] == pytest.approx(network_ms(arch))


def test_a_table_of_something_else_is_refused() -> None:
    table = made_up_table()
    wider = replace(SPACE, stem_widths=(8, 16, 24))
    for space, num_keypoints, named in (
        (SPACE, 17, "num_keypoints of the latency table is 14, that of the supernet 17"),
        (wider, NUM_KEYPOINTS, f"space_digest of the latency table is {SPACE.digest()}"),
        (replace(SPACE, resolutions=(64, 128)), NUM_KEYPOINTS, r"lacks the resolutions \[128\]"),
    ):
        with pytest.raises(UserError, match=named):
            table.check(space, num_keypoints)
    with pytest.raises(UserError, match="lacks the block stem 24 64"):
        table.predict_ms(replace(SPACE.smallest(), stem_width=24))
    with pytest.raises(UserError, match="space_digest"):
        table.latency_ms(wider, genes_of(wider, [wider.smallest()]))
    with pytest.raises(UserError, match="encode the archs with this space"):
        table.latency_ms(SPACE, np.zeros((1, 5), np.int16))


def changed(**fields: Any) -> Callable[[Json], None]:
    return lambda value: value.update(fields)


def in_row(**fields: Any) -> Callable[[Json], None]:
    return lambda value: value["blocks"][7].update(fields)


def scaled(value: Json, factor: float) -> None:
    for row in value["blocks"]:
        row.update(p50_ms=factor * row["p50_ms"], p90_ms=factor * row["p90_ms"])


def without(name: str) -> Callable[[Json], object]:
    return lambda value: value.pop(name)


FAULTS: dict[str, tuple[Callable[[Json], object], str]] = {
    "other format": (changed(format="something"), "format is 'something'"),
    "newer version": (changed(version=2), "version is 2; this program reads 1"),
    "microseconds": (changed(unit="us"), "unit is 'us'; latencies must be in 'ms'"),
    "microseconds as milliseconds": (
        lambda value: scaled(value, 1000),
        r"predict \d+ times the p50_ms of its networks",
    ),
    "no unit": (without("unit"), "the field unit is missing"),
    "unknown field": (changed(comment="hello"), "the field comment is unknown"),
    "other space": (changed(space_digest="0123456789ab"), "space_digest is '0123456789ab'"),
    "blocks no list": (changed(blocks={}), "blocks is {}; it must be a list"),
    "keypoints no number": (changed(num_keypoints="17"), "num_keypoints is '17'; it must be a whole number"),
    "other keypoints": (changed(num_keypoints=17), r"blocks\[\d+\] is the block prediction .*, which the space"),
    "no keypoints": (changed(num_keypoints=0), "num_keypoints is 0"),
    "a block missing": (lambda value: value["blocks"].pop(3), r"blocks lacks 1 of \d+ blocks, first "),
    "all blocks missing": (changed(blocks=[]), r"blocks lacks \d+ of \d+ blocks, first stem 8 64"),
    "a row twice": (
        lambda value: value["blocks"].append(value["blocks"][0]),
        r"blocks\[\d+\] repeats the block stem 8 64",
    ),
    "unknown block": (in_row(block="attention"), r"blocks\[7\].block is 'attention'"),
    "block no text": (in_row(block={"a": 1}), r"blocks\[7\].block is \{'a': 1\}; it must be one of"),
    "beyond all floats": (in_row(p50_ms=10**400), r"blocks\[7\].p50_ms is 1000.* a latency is above 0"),
    "far too many keypoints": (changed(num_keypoints=10**9), "num_keypoints is 1000000000; it must be from 1 to 1000"),
    "no row": (lambda value: value["blocks"].insert(2, 5), r"blocks\[2\].block is 5"),
    "other shape": (in_row(width=12), r"blocks\[7\] is the block bottleneck .*, which the space listed does not have"),
    "shape no number": (in_row(width=8.0), r"blocks\[7\].width is 8.0; it must be a whole number"),
    "negative": (in_row(p50_ms=-0.1), r"blocks\[7\].p50_ms is -0.1; a latency is above 0"),
    "zero": (in_row(p50_ms=0), r"blocks\[7\].p50_ms is 0;"),
    "not a number": (in_row(p50_ms=math.nan), r"blocks\[7\].p50_ms is nan;"),
    "endless": (in_row(p90_ms=math.inf), r"blocks\[7\].p90_ms is inf;"),
    "text": (in_row(p50_ms="0.3"), r"blocks\[7\].p50_ms is '0.3';"),
    "90th percentile below the median": (in_row(p50_ms=5.0), r"blocks\[7\].p90_ms is .*, below p50_ms, 5.0"),
    "no runs": (in_row(runs=0), r"blocks\[7\].runs is 0"),
    "unknown figure": (in_row(p99_ms=3.0), r"blocks\[7\].p99_ms is unknown"),
    "other precision type": (lambda value: value["settings"].update(precision=32), "settings.precision is 32"),
    "no threads": (lambda value: value["settings"].update(threads=0), "settings.threads is 0"),
    "no batch": (lambda value: value["settings"].pop("batch"), "settings.batch is missing"),
    "no device": (lambda value: value["settings"].pop("device"), "settings.device is missing"),
    "factor of nothing": (lambda value: value["overhead"].update(head_factor=math.nan), "overhead.head_factor is nan"),
    "network of another space": (
        lambda value: value["networks"][1]["arch"].update(img_size=512),
        r"networks\[1\].arch: resolution is 512, which is outside the space",
    ),
    "network without figures": (lambda value: value["networks"][0].pop("p50_ms"), r"networks\[0\].p50_ms is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_refused_with_its_field(fault: str, tmp_path: Path) -> None:
    change, named = FAULTS[fault]
    value = copy.deepcopy(made_up_table().to_dict())
    change(value)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=named) as caught:
        LatencyTable.load(path)
    assert str(caught.value).startswith(f"latency table {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "named"), [("", "not valid JSON"), ("[]", "it holds list"), ("3", "it holds int")])
def test_what_is_no_table_at_all_is_refused(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(UserError, match=named):
        LatencyTable.load(path)
    with pytest.raises(UserError, match=r"cannot read latency table .*nowhere\.json"):
        LatencyTable.load(tmp_path / "nowhere.json")
