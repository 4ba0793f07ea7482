"""Search runs that were stopped by a signal, by a kill or while a line was written, and are resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from search.cost import arch_costs
from search.runs import problem
from search.runs.evaluator import Measurement
from search.runs.evolution_run import start_or_resume
from search.runs.score_cache import file_digest
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import SUPERNET_FILE, save_supernet
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.io import jsonl
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.datasets import build
from supernet.pose.inference import InferenceSettings
from supernet.pose.metrics.image_matches import ImageMatches
from supernet.pose.training.objective import PoseObjective
from supernet.training import run_folder
from supernet.weight_sharing import SuperNet
from tests.helpers.coco_files import write_custom_set
from tests.helpers.locks import held_by_another_process
from tests.helpers.searches import ROOT, SPACE, Configure, FreeScores, read, save_random_supernet


@pytest.mark.parametrize("stop_at", [1, 3, 7, 12, 13, 16])
def test_a_signal_stops_a_run_that_then_goes_on_to_the_same_end(
    evolve_config: Configure, free_scores: FreeScores, tmp_path: Path, stop_at: int
) -> None:
    whole = start_or_resume(evolve_config("name=whole", "cache=null"))
    expected = free_scores.scored
    free_scores.scored, free_scores.stop_at = [], stop_at
    folder = tmp_path / "evolve" / "run"
    message = f"stopped after {stop_at} evaluations" if stop_at <= 12 else "stopped in the final check"
    with pytest.raises(UserError, match=rf"{message}; .*resume={folder}"):
        start_or_resume(evolve_config("cache=null"))
    assert len(read(folder / "candidates.json")) == min(stop_at, 12)
    resumed = start_or_resume(evolve_config("cache=null", "resume=latest"), ["resume=latest"])
    assert resumed == folder.resolve()
    searched = [score for score in free_scores.scored if score[2] == 5]
    assert searched == [score for score in expected if score[2] == 5]
    for name in ("candidates.json", "arch.json"):
        assert (folder / name).read_text() == (whole / name).read_text()
    with pytest.raises(UserError, match=f"{folder.resolve()} is finished"):
        start_or_resume(evolve_config("resume=latest"), ["resume=latest"])


@pytest.mark.parametrize("cached", [[], ["cache=null"]])
def test_a_resumed_run_keeps_the_matches_of_all_its_candidates(
    evolve_config: Configure,
    free_scores: FreeScores,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cached: list[str],
) -> None:
    def measure(*arguments: Any) -> Measurement:
        return free_scores(*arguments)._replace(matches=ImageMatches.from_evaluations([None] * 6).to_text())

    monkeypatch.setattr(problem, "measure_subnet", measure)
    whole = start_or_resume(evolve_config("name=whole", *cached))
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    free_scores.scored, free_scores.stop_at = [], 13
    with pytest.raises(UserError, match="stopped"):
        start_or_resume(evolve_config(*cached))
    folder = start_or_resume(evolve_config("resume=latest", *cached), ["resume=latest"])
    assert read(folder / "image_matches.json") == read(whole / "image_matches.json")


@pytest.fixture
def stopped(evolve_config: Configure, free_scores: FreeScores, tmp_path: Path) -> Path:
    """The folder of a search that was stopped after 5 evaluations."""
    free_scores.stop_at = 5
    with pytest.raises(UserError, match="stopped after 5"):
        start_or_resume(evolve_config("constraint.macs=20M"))
    return tmp_path / "evolve" / "run"


def test_the_seconds_of_a_resumed_search_are_those_of_all_its_parts(stopped: Path, evolve_config: Configure) -> None:
    rows = jsonl.read(stopped / "scores.jsonl", "scores")
    (stopped / "scores.jsonl").unlink()
    for row in rows:
        jsonl.append(stopped / "scores.jsonl", row | {"seconds": 1000.0 + row["order"]})
    folder = start_or_resume(evolve_config("resume=latest"), ["resume=latest"])
    assert 1004 < read(folder / "summary.json")["search_seconds"] < 1400


def test_a_search_that_another_process_continues_is_refused(stopped: Path, evolve_config: Configure) -> None:
    before = (stopped / "scores.jsonl").read_bytes()
    with (
        held_by_another_process(run_folder.locked(stopped)) as child,
        pytest.raises(UserError, match=f"is in use by process {child} "),
    ):
        start_or_resume(evolve_config("constraint.macs=20M", "resume=latest"), ["resume=latest"])
    assert (stopped / "scores.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("constraint.macs=30M", r"constraint\.macs is 30M .* with 20M"),
        ("population=9", "population is 9 .* with 4"),
        ("dataset=synthetic", "dataset is {.* with None"),
        ("objectives=[ap,macs]", r"objectives is \['ap', 'macs'\] .* with \['ap'\]"),
    ],
)
def test_other_options_for_a_search_that_goes_on_are_refused_with_both_values(
    evolve_config: Configure, stopped: Path, override: str, message: str
) -> None:
    overrides = ["resume=latest", override]
    with pytest.raises(UserError, match=message):
        start_or_resume(evolve_config(*overrides), overrides)


def test_other_weights_or_another_space_are_refused_with_both_digests(
    evolve_config: Configure, stopped: Path, supernet_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / SUPERNET_FILE
    save_random_supernet(other, seed=1)
    before, now = (file_digest(path)[:16] for path in (supernet_folder / SUPERNET_FILE, other))
    overrides = ["resume=latest", f"supernet={other}"]
    with pytest.raises(UserError, match=f"the supernet weights {before} .*{now}"):
        start_or_resume(evolve_config(*overrides), overrides)
    state = read(stopped / "state.json")
    del state["checksum"]
    state["identity"]["the space"] = "nano (0123)"
    (stopped / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match=rf"the space nano \(0123\) .*tiny \({SPACE.digest()}\)"):
        start_or_resume(evolve_config("resume=latest"), ["resume=latest"])


def test_a_search_is_resumed_with_a_moved_supernet_of_the_same_weights(
    evolve_config: Configure, stopped: Path, supernet_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(supernet_folder / SUPERNET_FILE, tmp_path / "moved.pt")
    overrides = ["resume=latest", f"supernet={tmp_path / 'moved.pt'}", "threads=1"]
    assert start_or_resume(evolve_config(*overrides), overrides) == stopped.resolve()


def test_a_cut_line_costs_its_score_and_a_damaged_one_is_an_error(
    evolve_config: Configure, stopped: Path, free_scores: FreeScores, caplog: pytest.LogCaptureFixture
) -> None:
    scores = stopped / "scores.jsonl"
    content = scores.read_text()
    damaged = content.replace("\n", "\ngarbage\n", 1)
    scores.write_text(damaged)
    with pytest.raises(UserError, match=r"scores\.jsonl, line 2 is damaged"):
        start_or_resume(evolve_config("resume=latest"), ["resume=latest"])
    assert scores.read_text() == damaged
    scores.write_text(content[:-20])
    start_or_resume(evolve_config("resume=latest", "cache=null"), ["resume=latest", "cache=null"])
    assert f"{scores.resolve()}: the last line was incomplete" in caplog.text
    assert len([score for score in free_scores.scored if score[2] == 5]) == 13
    assert len(read(stopped / "candidates.json")) == 12


def test_a_changed_digit_in_saved_state_or_scores_is_an_error(evolve_config: Configure, stopped: Path) -> None:
    for name, message in (("state.json", r"state\.json .*checksum"), ("scores.jsonl", r"scores\.jsonl, line 5")):
        content = (stopped / name).read_text()
        place = content.rindex('"num_images": ') + len('"num_images": ')
        digit = str((int(content[place]) + 1) % 10)
        (stopped / name).write_text(content[:place] + digit + content[place + 1 :])
        with pytest.raises(UserError, match=message):
            start_or_resume(evolve_config("resume=latest"), ["resume=latest"])
        (stopped / name).write_text(content)


def test_missing_lines_of_scores_are_an_error(evolve_config: Configure, stopped: Path) -> None:
    (stopped / "scores.jsonl").write_text("")
    with pytest.raises(UserError, match=r"scores\.jsonl and state\.json .* 4 of 8 "):
        start_or_resume(evolve_config("resume=latest"), ["resume=latest"])


def test_temporary_files_of_a_killed_search_are_removed_on_resuming(evolve_config: Configure, stopped: Path) -> None:
    stray = [stopped / ".state.tmp99999999.json", stopped.parent / ".latest.tmp99999999"]
    stray[0].write_text("{")
    stray[1].symlink_to("run")
    start_or_resume(evolve_config("resume=latest"), ["resume=latest"])
    assert not any(path.is_symlink() or path.exists() for path in stray)


@pytest.mark.parametrize("name", ["nothing", "latest"])
def test_a_folder_without_a_search_is_an_error(evolve_config: Configure, name: str) -> None:
    with pytest.raises(UserError, match=rf"no state\.json in .*{name}"):
        start_or_resume(evolve_config(f"resume={name}"), [f"resume={name}"])


def command(supernet_folder: Path, runs: Path, *options: str) -> list[str]:
    small = ["population=4", "generations=3", "baseline=2", "num_images=[3,5]", "top_k=2", "batch_size=4"]
    small += ["num_calibration_images=4", "device=cpu", "threads=1", f"supernet={supernet_folder}", f"runs={runs}"]
    return ["-m", "search.evolve", *small, *options]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(supernet_folder: Path, tmp_path: Path) -> None:
    whole = [sys.executable, *command(supernet_folder, tmp_path / "whole")]
    subprocess.run(whole, cwd=ROOT, timeout=250, check=True, capture_output=True)
    killed = [sys.executable, *command(supernet_folder, tmp_path / "killed", "cache=null")]
    process = subprocess.Popen(killed, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    scores = tmp_path / "killed" / "evolve" / "latest" / "scores.jsonl"
    deadline = time.monotonic() + 200
    while not scores.exists() or len(scores.read_text().splitlines()) < 6:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    resume = [sys.executable, "-m", "search.evolve", "resume=latest", f"runs={tmp_path / 'killed'}"]
    subprocess.run(resume, cwd=ROOT, timeout=250, check=True, capture_output=True)
    for name in ("candidates.json", "arch.json", "scores.jsonl"):
        contents = {(tmp_path / run / "evolve" / "latest" / name).read_text() for run in ("whole", "killed")}
        assert len(contents) == 1, name


@pytest.mark.slow
def test_two_processes_find_the_same_as_one(supernet_folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    alone = [sys.executable, *command(supernet_folder, tmp_path / "one")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    two = [*launcher, *command(supernet_folder, tmp_path / "two")]
    for started in (alone, two):
        subprocess.run(started, cwd=ROOT, env=environment, timeout=250, check=True, capture_output=True)
    single, double = (tmp_path / run / "evolve" / "latest" for run in ("one", "two"))
    for name in ("candidates.json", "arch.json", "scores.jsonl"):
        assert (single / name).read_text() == (double / name).read_text(), name
    summaries = [read(run / "summary.json") for run in (single, double)]
    for name in ("chosen", "finalists", "baseline", "num_scores"):
        assert summaries[0][name] == summaries[1][name]
    assert len(list((tmp_path / "two" / "evolve").iterdir())) == 2


@pytest.mark.parametrize("names_images", [False, True])
def test_a_search_goes_on_with_its_images_in_another_folder_and_keeps_its_scores(
    names_images: bool, evolve_config: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = write_custom_set(tmp_path / "before")
    keypoints = build(dataset, "train").keypoints
    state = SuperNet(SPACE, keypoints.num).state_dict()
    supernet = tmp_path / "supernet.pt"
    save_supernet(supernet, SPACE, state, keypoints, dataset, asdict(InferenceSettings()), PoseObjective(keypoints.num))
    scored: list[Arch] = []

    def measure(scorer: SubnetScorer, arch: Arch, images: PoseDataset) -> Measurement:
        scored.append(arch)
        if len(scored) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return Measurement({"AP": arch_costs(arch, keypoints.num)["params"] / 1e9})

    monkeypatch.setattr(problem, "measure_subnet", measure)
    config = evolve_config() | {"supernet": str(supernet), "dataset": dataset if names_images else None}
    with pytest.raises(UserError, match="stopped after 5"):
        start_or_resume(config)
    (tmp_path / "before").rename(tmp_path / "now")
    composed = config | {"resume": "latest", "dataset": {"root": str(tmp_path / "now")}}
    start_or_resume(composed, ["resume=latest", f"++dataset.root={tmp_path / 'now'}"])
    num_scored = len(scored)
    again = config | {"name": "again", "dataset": dataset | {"root": str(tmp_path / "now")}}
    start_or_resume(again)
    assert len(scored) == num_scored
