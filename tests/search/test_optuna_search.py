"""Runs of search.optuna_search from a supernet file to arch.json, with free scores."""

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
from search.runs import problem
from search.runs.optuna_run import run
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.io.files import read_json
from supernet.pose.metrics.image_matches import ImageMatches
from tests.helpers.searches import NUM_IMAGES, ROOT, SMALL, SPACE, VAL_SEED, Configure, FreeScores, plain_config

SEARCH = ("evaluations=8", "startup=3", "baseline=2", *SMALL)


@pytest.fixture
def overrides(supernet_folder: Path, tmp_path: Path) -> list[str]:
    """Options of a small run in the folder of this test."""
    return [f"supernet={supernet_folder}", f"runs={tmp_path}", *SEARCH]


@pytest.fixture
def configure(supernet_folder: Path, tmp_path: Path) -> Configure:
    """Return a function that makes the plain configuration of ``conf/optuna_search.yaml`` with overrides."""

    def make(*more: str) -> dict[str, Any]:
        places = {"SUPERNET": str(supernet_folder), "RUNS": str(tmp_path)}
        return plain_config("optuna_search", ["supernet=SUPERNET", "runs=RUNS", *SEARCH, *more], places)

    return make


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="search", storage=open_storage(folder / "study.journal")).trials


@pytest.mark.drawings
def test_a_run_writes_what_an_evolution_writes_and_its_study(
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
    with pytest.raises(UserError, match=rf"stopped after 4 .*storage={journal}"):
        run(configure("name=first", "cache=null"))
    folder = run(configure("name=second", "cache=null", f"storage={journal}"))
    assert len(free_scores.searched()) == len(set(free_scores.searched())) == 8
    assert len(read_json(folder / "candidates.json", "candidates")) == 8
    with pytest.raises(UserError, match=r"the constraint \{\}, .*90%"):
        run(configure("name=third", f"storage={journal}", "constraint.macs=90%"))
    assert not (tmp_path / "optuna_search" / "third").exists()
    with pytest.raises(UserError, match=r"the number of images for a score 5, .* 4"):
        run(configure("name=third", f"storage={journal}", "num_images=4"))


def test_without_a_cache_the_study_keeps_the_matches_of_other_workers(
    configure: Configure, free_scores: FreeScores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ImageMatches.from_evaluations([None] * NUM_IMAGES).to_text()
    monkeypatch.setattr(problem, "measure_subnet", lambda *scored: free_scores(*scored)._replace(matches=text))
    free_scores.stop_at = 4
    with pytest.raises(UserError, match="stopped after 4"):
        run(configure("name=first", "cache=null"))
    journal = tmp_path / "optuna_search" / "first" / "study.journal"
    folder = run(configure("name=second", "cache=null", f"storage={journal}"))
    digests = {row["digest"] for row in read_json(folder / "candidates.json", "candidates")}
    kept = read_json(folder / "image_matches.json", "matches")["val"][str(NUM_IMAGES)]
    assert (kept.keys(), len(kept)) == (digests, 8)


def test_with_costs_as_objectives_the_front_is_written(configure: Configure, free_scores: FreeScores) -> None:
    folder = run(configure("objectives=[ap,macs]", "sampler=nsga2"))
    front = read_json(folder / "front.json", "front")
    aps, macs = [row["metrics"]["AP"] for row in front], [row["costs"]["macs"] for row in front]
    assert aps == sorted(aps)
    assert macs == sorted(macs)
    assert len(list((folder / "front").iterdir())) == len(front)


def test_a_database_that_goes_away_is_a_user_error(
    configure: Configure, free_scores: FreeScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: OptunaSearch, score: object) -> None:
        raise StorageInternalError from OSError("server closed\nthe connection")

    monkeypatch.setattr(OptunaSearch, "step", fail)
    with pytest.raises(UserError, match=r"\(server closed the connection\).*storage="):
        run(configure())


def test_a_database_that_may_not_be_written_is_a_user_error(configure: Configure, tmp_path: Path) -> None:
    database = tmp_path / "study.db"
    open_storage(f"sqlite:///{database}")
    config = configure() | {"storage": f"sqlite:///file:{database}?mode=ro&uri=true"}
    with pytest.raises(UserError, match=r"cannot open study search in .*readonly database.*check that you may write"):
        run(config)
    assert not (tmp_path / "optuna_search").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampler=tpa", "sampler 'tpa'.* tpe, nsga2, gp, random"),
        ("evaluations=0", "evaluations .*0"),
        ("startup=1", "startup .*1"),
        ("objectives=[macs]", r"objectives .*\['macs'\]"),
        ("num_images=[2,4]", r"num_images .*\[2, 4\]"),
        ("lost_after=0", "lost_after .*0"),
        ("storage=nosuch://x/y", "nosuch"),
        ("constraint.macs=1K", r"constraint\.macs=1K"),
        ("objectives=[ap,speed]", "objective speed"),
    ],
)
def test_a_wrong_option_is_an_error_before_anything_is_scored(
    configure: Configure, free_scores: FreeScores, override: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
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
    assert wrong.stderr.startswith("error: ")
    assert "sampler 'x'" in wrong.stderr
