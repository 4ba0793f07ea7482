"""What tests of whole search runs begin with."""

from pathlib import Path
from typing import Any

import pytest

from search.runs import problem
from supernet.checkpoints.supernet_file import SUPERNET_FILE
from tests.helpers.searches import SMALL, Configure, FreeScores, plain_config, save_random_supernet


@pytest.fixture(scope="session")
def supernet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as training leaves it, with random weights."""
    folder = tmp_path_factory.mktemp("train")
    save_random_supernet(folder / SUPERNET_FILE)
    return folder


@pytest.fixture
def free_scores(monkeypatch: pytest.MonkeyPatch) -> FreeScores:
    """Scores that cost nothing, in place of evaluation."""
    found = FreeScores()
    monkeypatch.setattr(problem, "measured", found)
    return found


@pytest.fixture
def evolve_config(supernet_folder: Path, tmp_path: Path) -> Configure:
    """Makes the plain configuration of ``conf/evolve.yaml`` with overrides, small and kept in this test's folder."""
    small = [f"supernet={supernet_folder}", f"runs={tmp_path}", "population=4", "generations=3", "baseline=3"]

    def make(*overrides: str) -> dict[str, Any]:
        return plain_config("evolve", [*small, *SMALL, "name=run", *overrides])

    return make
