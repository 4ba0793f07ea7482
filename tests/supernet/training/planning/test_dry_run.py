"""``dry_run`` prints memory and time of every phase, and writes nothing."""

from pathlib import Path

import pytest

from supernet.compute.device import DeviceMemory
from supernet.compute.distributed import SINGLE_PROCESS
from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.training.launch import start_or_resume
from supernet.training.planning import dry_run
from supernet.training.planning.dry_run import duration, planned
from supernet.training.planning.time_budget import Speeds
from supernet.training.settings import TrainSettings
from supernet.training.setup import build_setup
from tests.supernet.test_train import configuration


def test_every_phase_is_printed_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path, dry_run=True)
    start_or_resume(config, ["dry_run=true"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("measuring steps")
    table = lines[1:]
    assert [line.split()[0] for line in table[1:-3]] == [phase["name"] for phase in config["phases"]]
    assert all(" GiB " in line and " px " in line and line.endswith((" s", "min")) for line in table[1:-3])
    assert table[-2].split()[:2] == ["all", "26"]
    assert not list(tmp_path.iterdir())


def test_a_training_that_does_not_fit_is_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "device_memory", lambda _: DeviceMemory(1000, 1000))
    monkeypatch.setattr(dry_run, "measure", lambda *_: pytest.fail("it would run out of memory"))
    with pytest.raises(UserError, match="lower the largest resolution"):
        start_or_resume(configuration(tmp_path, dry_run=True), ["dry_run=true"])
    assert "width" in capsys.readouterr().out


def test_minutes_choose_the_steps_that_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "measure", lambda *_: Speeds((0.5,) * 6, 0.0, 0.0, 0.0, 4))
    monkeypatch.setattr(dry_run, "phase_bytes", lambda *_: [2**20] * 6)
    start_or_resume(configuration(tmp_path, dry_run=True, minutes=1000.0), ["dry_run=true", "minutes=1000"])
    steps = int(capsys.readouterr().out.splitlines()[-2].split()[1].replace(",", ""))
    assert 110_000 < steps <= 120_000  # a thousand minutes of half a second, less what the start took


def test_the_time_is_that_of_steps_and_loading(tmp_path: Path) -> None:
    setup = build_setup(from_mapping(TrainSettings, configuration(tmp_path), ""), SINGLE_PROCESS)
    seconds = (0.5, 1.0, 2.0, 2.0, 3.0, 4.0)
    phases = planned(setup, [7] * 6, Speeds(seconds, 0.25, wait_seconds=0.25, seconds_per_mac=1e-6, step_images=4))
    assert sum(phase.steps for phase in phases) == 26
    compute = sum(phase.steps * value for phase, value in zip(phases, seconds, strict=True))
    loaded = 0.25 * len(setup.train_set)  # all images fit into the cache
    assert sum(phase.seconds or 0.0 for phase in phases) == pytest.approx(compute + loaded)


def test_a_dry_run_is_of_a_new_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dry_run.*resume=latest"):
        start_or_resume(configuration(tmp_path, dry_run=True, resume="latest"), ["dry_run=true"])


@pytest.mark.parametrize(("seconds", "text"), [(3.2, "3 s"), (600.0, "10 min"), (9000.0, "2.5 h")])
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
