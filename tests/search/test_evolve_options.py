"""Wrong options of a search run, which are refused before anything is written, and its configuration."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search import evolve
from search.runs import problem
from search.runs.evolution_run import EvolveSettings, start_or_resume
from supernet.errors import UserError
from supernet.io.schema import from_mapping
from tests.helpers.searches import ROOT, Configure, plain_config


def test_an_impossible_budget_ends_before_any_image_is_loaded(
    evolve_config: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a data set was built")

    monkeypatch.setattr(problem, "split_for", refuse)
    with pytest.raises(UserError, match=r"constraint\.macs=1K is below .* tiny"):
        start_or_resume(evolve_config("constraint.macs=1K"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+populatoin=10", r"populatoin.*population\?"),
        ("+constraint.mac=1G", r"constraint\.mac\b.*constraint\.macs\?"),
        ("constraint.params=-5", r"constraint\.params .*-5"),
        ("population=0", "population .*0"),
        ("generations=0", "generations .*0"),
        ("population=many", "population .*'many'"),
        ("mutation_rate=2", r"mutation_rate .*2\.0"),
        ("num_images=0", "num_images .*0"),
        ("num_images=[9,5]", r"num_images .*\[9, 5\]"),
        ("num_images=[null,5]", r"num_images .*\[None, 5\]"),
        ("objectives=[macs]", r"objectives .*\['macs'\]"),
        ("objectives=[ap,mac]", "objective mac.* ap, macs"),
        ("objectives=ap", "objectives .*'ap'"),
        ("keep_share=0", r"keep_share .*0\.0"),
        ("top_k=0", "top_k .*0"),
        ("baseline=-1", "baseline .*-1"),
        ("supernet=nowhere", "supernet .*nowhere"),
        ("device=tpu", "device .*'tpu'"),
    ],
)
def test_a_wrong_option_is_an_error_and_writes_nothing(
    evolve_config: Configure, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        start_or_resume(evolve_config(override))
    assert list(tmp_path.iterdir()) == []


def test_a_predictor_that_would_never_propose_is_refused(evolve_config: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prediction\.first .*12 subnets.*24"):
        start_or_resume(evolve_config("predictor=true"))
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_with_other_keypoints_is_refused(evolve_config: Configure) -> None:
    with pytest.raises(UserError, match=r"dataset\.keypoints .*'crowdpose'.*'coco'"):
        start_or_resume(evolve_config("dataset=synthetic", "dataset.keypoints=crowdpose"))


def test_the_default_configuration_is_complete_and_evaluates_about_sixty() -> None:
    settings = from_mapping(EvolveSettings, plain_config("evolve"), "")
    assert 50 <= settings.population * settings.generations <= 70
    assert settings.supernet == "runs/train/latest"
    assert settings.dataset is None


def test_an_impossible_budget_ends_the_command_in_one_line_with_exit_2(
    supernet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"supernet={supernet_folder}", "constraint.macs=1K", f"runs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["evolve", *arguments])
    with pytest.raises(SystemExit) as stop:
        evolve.main()
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert shown.err.startswith("error: constraint.macs=1K ")


def test_the_entry_point_starts_without_torch() -> None:
    code = "import search.evolve, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=250, check=True)


def test_presets_and_bounds_mix_on_the_command_line() -> None:
    def constraint(*overrides: str) -> dict[str, Any]:
        bounds = plain_config("evolve", overrides)["constraint"]
        return {name: value for name, value in bounds.items() if value is not None}

    assert constraint() == {}
    assert constraint("constraint=xs") == {"macs_paper": "1.21G"}
    assert constraint("constraint=s", "constraint.latency=30ms") == {"macs_paper": "5G", "latency": "30ms"}
    assert constraint("constraint.macs=40%", "constraint.min_params=1M") == {"macs": "40%", "min_params": "1M"}
