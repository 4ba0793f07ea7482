"""Runs of search.optuna_search from a supernet file to arch.json, with scores that cost nothing."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError

from search.cost import COSTS, arch_costs
from search.optuna_backend.search import OptunaSearch
from search.optuna_backend.storage import open_storage
from search.runs.optuna_run import run
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.io.files import read_json
from tests.helpers.searches import NUM_IMAGES, ROOT, SMALL, SPACE, VAL_SEED, Configure, FreeScores, plain_config


@pytest.fixture
def overrides(supernet_folder: Path, tmp_path: Path) -> list[str]:
    """A small run in this test's folder."""
    small = ["evaluations=8", "startup=3", "baseline=2", *SMALL]
    return [f"supernet={supernet_folder}", f"runs={tmp_path}", *small]


@pytest.fixture
def configure(overrides: list[str]) -> Configure:
    """Makes the plain configuration of ``conf/optuna_search.yaml`` with overrides."""

    def make(*more: str) -> dict[str, Any]:
        return plain_config("optuna_search", [*overrides, *more])

    return make


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="search", storage=open_storage(folder / "study.journal")).trials


def test_a_run_leaves_what_an_evolution_leaves_and_its_study(
    configure: Configure, free_scores: FreeScores, tmp_path: Path
) -> None:
    macs = int(2.5 * COSTS["macs"](SPACE.smallest(), 17))
    folder = run(configure(f"constraint.macs={macs}", "name=first"))
    assert (tmp_path / "optuna_search" / "latest").resolve() == folder.resolve()
    rows = read_json(folder / "candidates.json", "candidates")
    assert [Arch.from_dict(row["arch"]) for row in rows] == free_scores.searched()
    assert len(set(free_scores.searched())) == 8
    for order, (row, arch) in enumerate(zip(rows, free_scores.searched(), strict=True)):
        assert (row["order"], row["digest"], row["num_images"]) == (order, arch.digest(), 5)
        assert row["costs"] == arch_costs(arch, 17)
        assert row["costs"]["macs"] <= macs
        assert row["metrics"]["AP"] == pytest.approx(free_scores.ap(VAL_SEED, arch, NUM_IMAGES))
    best = max(free_scores.searched(), key=lambda arch: arch_costs(arch, 17)["params"])
    assert Arch.load(folder / "arch.json") == best
    assert (folder / "pareto.png").stat().st_size > 10_000
    assert (folder / "report.html").stat().st_size > 10_000
    summary = read_json(folder / "summary.json", "summary")
    assert (summary["num_evaluations"], summary["sampler"]) == (8, "tpe")
    assert summary["chosen"]["digest"] == best.digest()
    complete = [trial for trial in trials(folder) if trial.state == optuna.trial.TrialState.COMPLETE]
    assert [trial.value for trial in complete] == [row["metrics"]["AP"] for row in rows]


def test_a_stopped_run_goes_on_with_its_study(configure: Configure, free_scores: FreeScores, tmp_path: Path) -> None:
    free_scores.stop_at = 4
    journal = tmp_path / "optuna_search" / "first" / "study.journal"
    with pytest.raises(UserError, match=rf"stopped after 4 evaluations; continue with storage={journal}"):
        run(configure("name=first", "cache=null"))
    folder = run(configure("name=second", "cache=null", f"storage={journal}"))
    assert len(free_scores.searched()) == len(set(free_scores.searched())) == 8
    assert len(read_json(folder / "candidates.json", "candidates")) == 8
    with pytest.raises(UserError, match=r"was made with the constraint \{\}, but now it is .*; restore what it was"):
        run(configure("name=third", f"storage={journal}", "constraint.macs=90%"))
    assert not (tmp_path / "optuna_search" / "third").exists()
    with pytest.raises(UserError, match="was made with the number of images for a score 5, but now it is 4"):
        run(configure("name=third", f"storage={journal}", "num_images=4"))


def test_with_costs_as_objectives_the_front_is_written(configure: Configure, free_scores: FreeScores) -> None:
    folder = run(configure("objectives=[ap,macs]", "sampler=nsga2"))
    front = read_json(folder / "front.json", "front")
    aps, macs = [row["metrics"]["AP"] for row in front], [row["costs"]["macs"] for row in front]
    assert aps == sorted(aps)
    assert macs == sorted(macs)
    assert len(list((folder / "front").iterdir())) == len(front)


def test_a_database_that_goes_away_is_one_sentence(
    configure: Configure, free_scores: FreeScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: OptunaSearch, score: object, on_round: object) -> None:
        raise StorageInternalError from OSError("server closed\nthe connection")

    monkeypatch.setattr(OptunaSearch, "run", fail)
    with pytest.raises(UserError, match=r"failed \(server closed the connection\); continue with storage="):
        run(configure())


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sampler=tpa", "no sampler 'tpa'; choose among tpe, nsga2, gp, random"),
        ("evaluations=0", "evaluations is 0"),
        ("startup=1", "startup is 1"),
        ("objectives=[macs]", "give ap and names of costs"),
        ("num_images=[2,4]", "give one number"),
        ("lost_after=0", "lost_after is 0"),
        ("storage=nosuch://x/y", "nosuch"),
        ("constraint.macs=1K", "below the smallest subnet"),
        ("objectives=[ap,speed]", "no objective speed"),
    ],
)
def test_a_wrong_option_is_one_sentence_before_anything_is_scored(
    configure: Configure, free_scores: FreeScores, override: str, says: str
) -> None:
    with pytest.raises(UserError, match=says.replace("[", r"\[")) as caught:
        run(configure(override))
    assert "\n" not in str(caught.value)
    assert not free_scores.searched()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_command_searches_with_real_scores(overrides: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "search.optuna_search", *overrides, "evaluations=3", "name=real"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "optuna_search" / "real"
    assert Arch.load(folder / "arch.json") in SPACE
    assert len(read_json(folder / "candidates.json", "candidates")) == 3
    wrong = subprocess.run([*command, "sampler=x"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: there is no sampler 'x'")
