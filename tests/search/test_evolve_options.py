"""What a search run refuses before it leaves anything, and its configuration."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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

    monkeypatch.setattr(problem, "images_for", refuse)
    with pytest.raises(UserError, match=r"constraint\.macs=1K is below the smallest subnet of space tiny"):
        start_or_resume(evolve_config("constraint.macs=1K"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("+populatoin=10", r"there is no option populatoin; did you mean population\?"),
        ("+constraint.mac=1G", r"no cost constraint\.mac; did you mean constraint\.macs\?"),
        ("constraint.params=-5", "constraint.params is -5; give a"),
        ("population=0", "population is 0; it must be at least 1"),
        ("generations=0", "generations is 0; it must be at least 1"),
        ("population=many", "population is 'many'; it must be a whole number"),
        ("mutation_rate=2", r"mutation_rate is 2\.0; it must be from 0 to 1"),
        ("num_images=0", "num_images is 0; give a number from 1"),
        ("num_images=[9,5]", r"num_images is \[9, 5\]; give a number from 1"),
        ("num_images=[null,5]", r"num_images is \[None, 5\]; give a number from 1"),
        ("objectives=[macs]", r"objectives is \['macs'\]; give ap and names of costs"),
        ("objectives=[ap,mac]", "there is no objective mac; choose among ap, macs"),
        ("objectives=ap", "objectives is 'ap'; it must be a list"),
        ("keep_share=0", r"keep_share is 0\.0; it must be above 0"),
        ("top_k=0", "top_k is 0; it must be at least 1"),
        ("baseline=-1", "baseline is -1; it must be at least 0"),
        ("supernet=nowhere", "there is no trained supernet at nowhere"),
        ("device=tpu", "device 'tpu' is not available here"),
    ],
)
def test_a_wrong_option_is_told_and_leaves_nothing(
    evolve_config: Configure, tmp_path: Path, override: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        start_or_resume(evolve_config(override))
    assert list(tmp_path.iterdir()) == []


def test_a_predictor_that_would_never_propose_is_refused(evolve_config: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prediction\.first is 24 but 12 subnets are scored in all"):
        start_or_resume(evolve_config("predictor=true"))
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_with_other_keypoints_is_refused(evolve_config: Configure) -> None:
    with pytest.raises(UserError, match=r"dataset\.keypoints is 'crowdpose' but the supernet .* on 'coco'"):
        start_or_resume(evolve_config("dataset=synthetic", "dataset.keypoints=crowdpose"))


def test_the_default_configuration_is_complete_and_evaluates_about_sixty() -> None:
    settings = from_mapping(EvolveSettings, plain_config("evolve"), "")
    assert 50 <= settings.population * settings.generations <= 70
    assert settings.supernet == "runs/train/latest"
    assert settings.dataset is None


def test_the_command_tells_an_impossible_budget_in_one_line_and_exits_2(supernet_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "search.evolve", f"supernet={supernet_folder}", "constraint.macs=1K"]
    ended = subprocess.run(
        [*command, f"runs={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("error: constraint.macs=1K is below the smallest subnet of space tiny (")


def test_the_entry_point_starts_without_torch() -> None:
    code = "import search.evolve, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=True)


def test_presets_and_bounds_mix_on_the_command_line() -> None:
    def constraint(*overrides: str) -> dict[str, Any]:
        found = plain_config("evolve", overrides)["constraint"]
        return {name: value for name, value in found.items() if value is not None}

    assert constraint() == {}
    assert constraint("constraint=xs") == {"macs_paper": "1.21G"}
    assert constraint("constraint=s", "constraint.latency=30ms") == {"macs_paper": "5G", "latency": "30ms"}
    assert constraint("constraint.macs=40%", "constraint.min_params=1M") == {"macs": "40%", "min_params": "1M"}
