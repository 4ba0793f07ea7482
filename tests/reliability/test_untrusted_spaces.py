"""Search spaces and latency tables made to do harm: nothing in them is without measure."""

from pathlib import Path
from typing import Any

import pytest

from supernet.costs import latency_blocks
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from supernet.space import SearchSpace
from tests.helpers.latency_tables import fake_table
from tests.reliability.fuzz_targets import SPACE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolutions": [2**40]}, "resolutions .* from 1 to 65536"),
        ({"stem_widths": list(range(8, 70000))}, "stem_widths must have at most 1000 entries, got 69992"),
        ({"name": "[/]\n\x1b[2J"}, "the space's name must be"),
        ({"name": ["x"]}, "the space's name must be"),
        ({"depths": [10**12]}, "depths .* from 1 to 1000 "),
        ({"depths": [1, 100000]}, "depths .* from 1 to 1000 "),
    ],
)
def test_spaces_without_measure_are_refused(change: dict[str, Any], message: str) -> None:
    space = SPACE.to_dict()
    space["stages"][1].update({key: value for key, value in change.items() if key == "depths"})
    space.update({key: value for key, value in change.items() if key != "depths"})
    with pytest.raises(UserError, match=message):
        SearchSpace.from_dict(space)


YAML = {
    "aliases without end": "a: &a [1, 1]\n"
    + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijklmnopqrstuvw", "bcdefghijklmnopqrstuvwx", strict=True)
    ),
    "a tag that calls": "name: !!python/object/apply:os.system ['touch /tmp/never']",
    "too large": "# " + "x" * 10**5,
    "nested": "[" * 1200,
    "a number of thousands of digits": "name: " + "9" * 5000,
    "no date": "name: 2026-99-99",
    "no text": "\ud800",
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_does_harm_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(YAML[name].encode(errors="surrogatepass"))
    with pytest.raises(UserError, match=r"space\.yaml"):
        SearchSpace.load(path)


def test_a_table_of_a_space_with_too_many_blocks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_blocks, "MOST_BLOCKS", 10_000)
    value = fake_table().to_dict()
    many = [8 * number for number in range(1, 1001)]
    for stage in value["space"]["stages"]:
        stage["widths"] = many
    value["space_digest"] = SearchSpace.from_dict(value["space"]).digest()
    with pytest.raises(UserError, match="has more than 10,000 blocks"):
        LatencyTable.from_dict(value)
