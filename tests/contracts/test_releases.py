"""What earlier releases wrote is read and gives what it gave then; ``tests/golden/release_recipe.py`` stored it.

There is a folder for the formats of each release; a change that no longer reads one has to say so by name here.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.release_recipe import figures

FOLDERS = [Path(__file__).parents[1] / "golden" / "release"]


def numbers(value: Any) -> list[float]:
    """All numbers of a plain value, in order."""
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, list):
        return [number for each in value for number in numbers(each)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_files_of_a_release_give_what_they_gave(folder: Path) -> None:
    expected = json.loads((folder / "outputs.json").read_text())
    with pytest.warns(UserWarning, match=r"supernet_format_1\.pt is of an older release and has no checksum"):
        found = json.loads(json.dumps(figures(folder)))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert len(numbers(value)) > 1
        np.testing.assert_allclose(numbers(found[name]), numbers(value), rtol=1e-4, atol=1e-5, err_msg=name)
