"""Fixtures of tests of whole search runs."""

from pathlib import Path
from typing import Any

import pytest

from search.runs import problem
from supernet.checkpoints.supernet_file import SUPERNET_FILE
from tests.helpers.searches import SMALL, Configure, FreeScores, plain_config, save_random_supernet


@pytest.fixture(scope="session")
def supernet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training run whose supernet has random weights."""
    folder = tmp_path_factory.mktemp("train")
    save_random_supernet(folder / SUPERNET_FILE)
    return folder


@pytest.fixture
def free_scores(monkeypatch: pytest.MonkeyPatch) -> FreeScores:
    """Replace evaluation by free scores."""
    scores = FreeScores()
    monkeypatch.setattr(problem, "measure_subnet", scores)
    return scores


@pytest.fixture
def evolve_config(supernet_folder: Path, tmp_path: Path) -> Configure:
    """Return a function that makes the configuration of a small run of ``search.evolve`` in the folder of this test."""
    small = ["supernet=SUPERNET", "runs=RUNS", "population=4", "generations=3", "baseline=3"]
    places = {"SUPERNET": str(supernet_folder), "RUNS": str(tmp_path)}

    def make(*overrides: str) -> dict[str, Any]:
        return plain_config("evolve", [*small, *SMALL, "name=run", *overrides], places)

    return make
