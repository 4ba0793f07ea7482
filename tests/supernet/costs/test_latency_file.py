"""Files of latency tables: a wrong file is refused and the message names its field."""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from tests.helpers.latency_tables import fake_table

Json = dict[str, Any]


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
    "newer version": (changed(version=2), "version is 2; this release reads 1"),
    "microseconds": (changed(unit="us"), "unit is 'us'; latencies must be in 'ms'"),
    "microseconds as milliseconds": (
        lambda value: scaled(value, 1000),
        r"predict \d+ times the p50_ms of its networks",
    ),
    "no unit": (without("unit"), "the field unit is missing"),
    "unknown field": (changed(comment="hello"), "the field comment is unknown"),
    "other space": (changed(space_digest="0123456789ab"), "space_digest is '0123456789ab'"),
    "blocks no list": (changed(blocks={}), r"blocks must be a list.*, got \{\}"),
    "keypoints no number": (changed(num_keypoints="17"), r"num_keypoints must be a whole.*, got '17'"),
    "other keypoints": (
        changed(num_keypoints=17),
        r"blocks\[\d+\] is the block prediction .* not in the space",
    ),
    "no keypoints": (changed(num_keypoints=0), "num_keypoints must be .*, got 0"),
    "a block missing": (lambda value: value["blocks"].pop(3), r"blocks lacks 1 of \d+ blocks, first "),
    "all blocks missing": (changed(blocks=[]), r"blocks lacks \d+ of \d+ blocks, first stem 8 64"),
    "a row twice": (
        lambda value: value["blocks"].append(value["blocks"][0]),
        r"blocks\[\d+\] repeats the block stem 8 64",
    ),
    "unknown block": (in_row(block="attention"), r"blocks\[7\].block is 'attention'"),
    "block no text": (in_row(block={"a": 1}), r"blocks\[7\].block is \{'a': 1\}; it must be one of"),
    "beyond all floats": (in_row(p50_ms=10**400), r"blocks\[7\].p50_ms must be above 0 .* got 1000"),
    "far too many keypoints": (changed(num_keypoints=10**9), "num_keypoints must be from 1 to 1000, got 1000000000"),
    "no row": (lambda value: value["blocks"].insert(2, 5), r"blocks\[2\].block is 5"),
    "other shape": (in_row(width=12), r"blocks\[7\] is the block bottleneck .* not in the space"),
    "shape no number": (in_row(width=8.0), r"blocks\[7\].width must be a whole.*, got 8\.0"),
    "negative": (in_row(p50_ms=-0.1), r"blocks\[7\].p50_ms must be above 0 .* got -0.1;"),
    "zero": (in_row(p50_ms=0), r"blocks\[7\].p50_ms must be above 0 .* got 0;"),
    "not a number": (in_row(p50_ms=math.nan), r"blocks\[7\].p50_ms must be above 0 .* got nan;"),
    "endless": (in_row(p90_ms=math.inf), r"blocks\[7\].p90_ms must be above 0 .* got inf;"),
    "text": (in_row(p50_ms="0.3"), r"blocks\[7\].p50_ms must be above 0 .* got '0.3';"),
    "90th percentile below the median": (in_row(p50_ms=5.0), r"blocks\[7\].p90_ms is .*, below p50_ms, 5.0"),
    "no runs": (in_row(runs=0), r"blocks\[7\].runs must be .*, got 0"),
    "unknown figure": (in_row(p99_ms=3.0), r"blocks\[7\].p99_ms is unknown"),
    "other precision type": (lambda value: value["settings"].update(precision=32), "precision must be .*, got 32"),
    "no threads": (lambda value: value["settings"].update(threads=0), "settings.threads must be .*, got 0"),
    "no batch": (lambda value: value["settings"].pop("batch"), "settings.batch is missing"),
    "no device": (lambda value: value["settings"].pop("device"), "settings.device is missing"),
    "factor of nothing": (
        lambda value: value["overhead"].update(head_factor=math.nan),
        "head_factor must .* got nan",
    ),
    "network of another space": (
        lambda value: value["networks"][1]["arch"].update(img_size=512),
        r"networks\[1\].arch: resolution is 512, which is outside the space",
    ),
    "network without figures": (lambda value: value["networks"][0].pop("p50_ms"), r"networks\[0\].p50_ms is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_refused_with_its_field(fault: str, tmp_path: Path) -> None:
    change, named = FAULTS[fault]
    value = copy.deepcopy(fake_table().to_dict())
    change(value)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=named) as caught:
        LatencyTable.load(path)
    assert str(caught.value).startswith(f"latency table {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["measurements.jsonl", "kit-results.zip"])
def test_measurements_are_refused_with_the_command_that_makes_a_table_of_them(name: str) -> None:
    with pytest.raises(UserError, match=rf"^latency table {name} is a file of measurements .* merge {name} --output"):
        LatencyTable.load(name)


@pytest.mark.parametrize(("text", "named"), [("", "not valid JSON"), ("[]", "it holds list"), ("3", "it holds int")])
def test_what_is_no_table_at_all_is_refused(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(UserError, match=named):
        LatencyTable.load(path)
    with pytest.raises(UserError, match=r"cannot read latency table .*nowhere\.json"):
        LatencyTable.load(tmp_path / "nowhere.json")
