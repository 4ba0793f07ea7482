"""A latency table: round trip through its file, the spaces that it covers, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE, fake_table, network_ms


def test_a_table_is_read_back_as_it_was(tmp_path: Path) -> None:
    table, path = fake_table(), tmp_path / "table.json"
    path.write_text(json.dumps(table.to_dict()))
    read = LatencyTable.load(path)
    assert read.to_dict() == table.to_dict()
    assert dict(read.entries) == dict(table.entries)
    assert read.networks == table.networks
    assert "2 threads" in read.describe()


def test_a_table_serves_its_space_and_parts_of_its_resolutions() -> None:
    table = fake_table()
    part = replace(SPACE, name="other name", resolutions=(96,))
    table.check(SPACE, NUM_KEYPOINTS)
    table.check(part, NUM_KEYPOINTS)
    arch = part.largest()
    assert table.latency_ms(part, part.encode([arch]))[0] == pytest.approx(network_ms(arch))


def test_a_table_of_something_else_is_refused() -> None:
    table = fake_table()
    wider = replace(SPACE, stem_widths=(8, 16, 24))
    for space, num_keypoints, named in (
        (SPACE, 17, "num_keypoints of the latency table is 14, here it is 17"),
        (wider, NUM_KEYPOINTS, f"space_digest of the latency table is {SPACE.digest()}"),
        (replace(SPACE, resolutions=(64, 128)), NUM_KEYPOINTS, r"lacks the resolutions \[128\]"),
    ):
        with pytest.raises(UserError, match=named):
            table.check(space, num_keypoints)
    with pytest.raises(UserError, match="lacks the block stem 24 64"):
        table.predict_ms(replace(SPACE.smallest(), stem_width=24))
    with pytest.raises(UserError, match="space_digest"):
        table.latency_ms(wider, wider.encode([wider.smallest()]))
    with pytest.raises(UserError, match=r"genes .* got \(1, 5\)"):
        table.latency_ms(SPACE, np.zeros((1, 5), np.int16))
