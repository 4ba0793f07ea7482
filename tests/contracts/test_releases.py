"""Files of earlier releases give the results that they gave then, stored by ``tests/golden/release_recipe.py``.

There is a folder for the formats of each release. A change that can no longer read one must remove it here.
"""

import json
import re
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
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_files_of_a_release_give_the_same_results(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = json.loads((folder / "outputs.json").read_text())
    actual = json.loads(json.dumps(figures(folder)))
    assert re.search(r"supernet_format_1\.pt .* has no checksum", caplog.text)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert len(numbers(value)) > 1
        np.testing.assert_allclose(numbers(actual[name]), numbers(value), rtol=1e-4, atol=1e-5, err_msg=name)
