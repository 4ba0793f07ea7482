"""A table moves to a similar device by a few networks, and its error is that of networks left out."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from search.lut.devices.transfer import LEAST_NETWORKS, noise_of_medians, transfer
from search.lut.workloads import NO_OP, MeasurementPlan, draw_networks, fitting_networks, network_key
from supernet.arch import Arch
from supernet.costs.latency_blocks import blocks_of, key_of, kind_of, num_border_elements
from supernet.costs.latency_file import Entry
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from supernet.space import SearchSpace
from tests.helpers.latency_tables import NUM_KEYPOINTS, OVERHEAD, SETTINGS, block_ms, fake_table

SPACE = SearchSpace.load("nano")
SOURCE = fake_table(SPACE)
OTHER = replace(SETTINGS, device="another processor", threads=1)
KINDS = {"stem": 2.0, "bottleneck": 2.4, "deconv": 1.8, "prediction": 2.2}
CALL_MS, FIXED_MS, BORDER = 0.05, 1.5, 2.1
Changes = Callable[[Arch, int], float]


def other_ms(arch: Arch) -> float:
    """The latency of a network on the other device: every kind of block takes a multiple of what it takes here."""
    total = FIXED_MS
    for block in blocks_of(arch, NUM_KEYPOINTS):
        kind = kind_of(block)
        factor = OVERHEAD.backbone_factor if kind in ("stem", "bottleneck") else OVERHEAD.head_factor
        total += KINDS[kind] * factor * (block_ms(block) - OVERHEAD.call_ms)
        total += BORDER * OVERHEAD.border_ms * num_border_elements(block) / 1e6
    return total


def unchanged(arch: Arch, number: int) -> float:
    return 1.0


def measured(path: Path, num: int, change: Changes = unchanged, rounds: int = 3, **header: object) -> Path:
    """A file of measurements of ``num`` networks, each latency times what ``change`` returns for arch and round."""
    archs = fitting_networks(SPACE, num, seed=3)
    first = {**MeasurementPlan(SPACE, NUM_KEYPOINTS, archs).header(asdict(OTHER)), **header}
    visits = [
        {"round": number, "subject": subject, "ms": [milliseconds]}
        for number in range(rounds)
        for subject, milliseconds in [
            (NO_OP, CALL_MS),
            *((network_key(arch), other_ms(arch) * change(arch, number)) for arch in archs),
        ]
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [first, *visits]))
    return path


def noise(size: float) -> Changes:
    rng = np.random.default_rng(0)
    return lambda arch, number: float(1 + size * rng.standard_normal())


def mean_error(table: LatencyTable) -> float:
    """Mean relative error for networks that no table was fitted on, percent."""
    archs = draw_networks(SPACE, 100, seed=9)
    return 100 * float(np.mean([abs(table.predict_ms(arch) / other_ms(arch) - 1) for arch in archs]))


def test_a_moved_table_predicts_the_other_device(tmp_path: Path) -> None:
    result = transfer(SOURCE, measured(tmp_path / "there.jsonl", 20))
    assert result.table.settings == OTHER
    assert len(result.table.networks) == 20
    assert result.left_out.mape < 1.0
    assert mean_error(result.table) < 1.0
    assert result.common_mape > result.left_out.mape
    assert result.table.overhead.call_ms == CALL_MS
    for block, entry in result.table.entries.items():
        expected = CALL_MS + result.factors.kinds[kind_of(block)] * (block_ms(block) - OVERHEAD.call_ms)
        assert entry.p50_ms == pytest.approx(expected, abs=2e-5)
    result.table.save(tmp_path / "moved.json")
    loaded = LatencyTable.load(tmp_path / "moved.json")
    archs = draw_networks(SPACE, 5, seed=1)
    predicted = loaded.latency_ms(SPACE, SPACE.encode(archs))
    assert predicted == pytest.approx([result.table.predict_ms(arch) for arch in archs], rel=1e-6)


def test_ten_noisy_networks_suffice(tmp_path: Path) -> None:
    result = transfer(SOURCE, measured(tmp_path / "there.jsonl", LEAST_NETWORKS, noise(0.03)))
    assert mean_error(result.table) < 3.0
    assert 0 < result.noise < 3.0


def test_more_rounds_lower_the_noise_of_their_median() -> None:
    """The mean absolute error of medians of normal numbers, against the mean distance of single ones from them."""
    rng = np.random.default_rng(0)
    for num_rounds in (9, 25):
        rounds = rng.standard_normal((20_000, num_rounds))
        medians = np.median(rounds, axis=1)
        repeat_noise = float(np.abs(rounds - medians[:, None]).mean())
        assert noise_of_medians(100 * repeat_noise, num_rounds) == pytest.approx(100 * np.abs(medians).mean(), rel=0.1)


def test_a_network_left_out_has_no_part_in_its_prediction(tmp_path: Path) -> None:
    """Another latency of one network changes the predictions of all others, but not its own."""
    last = network_key(fitting_networks(SPACE, 12, seed=3)[-1])

    def slower(arch: Arch, number: int) -> float:
        return 1.2 if network_key(arch) == last else 1.0

    before = transfer(SOURCE, measured(tmp_path / "before.jsonl", 12))
    after = transfer(SOURCE, measured(tmp_path / "after.jsonl", 12, slower))
    assert after.predicted_ms[-1] == before.predicted_ms[-1]
    assert all(first != second for first, second in zip(before.predicted_ms[:-1], after.predicted_ms[:-1], strict=True))
    errors = [
        100 * abs(prediction / network.entry.p50_ms - 1)
        for prediction, network in zip(after.predicted_ms, after.table.networks, strict=True)
    ]
    assert after.left_out.mape == pytest.approx(np.mean(errors), abs=0.01)


def test_blocks_that_were_measured_too_are_passed_over(tmp_path: Path) -> None:
    path = measured(tmp_path / "there.jsonl", 12)
    expected = transfer(SOURCE, path).predicted_ms
    block = next(iter(SOURCE.entries))
    with path.open("a") as file:
        file.write(json.dumps({"round": 0, "subject": key_of(block), "ms": [1.0]}) + "\n")
    assert transfer(SOURCE, path).predicted_ms == expected
    num_lines = len(path.read_text().splitlines())
    with path.open("a") as file:
        file.write(json.dumps({"round": 0, "subject": "attention 8", "ms": [1.0]}) + "\n")
    with pytest.raises(UserError, match=f"line {num_lines + 1}: subject is 'attention 8'"):
        transfer(SOURCE, path)


def test_a_table_that_predicts_no_time_is_refused(tmp_path: Path) -> None:
    call = Entry(OVERHEAD.call_ms, OVERHEAD.call_ms, 1)
    overhead = replace(OVERHEAD, fixed_ms=0.0, border_ms=0.0)
    empty = replace(SOURCE, networks=(), overhead=overhead, entries=dict.fromkeys(SOURCE.entries, call))
    with pytest.raises(UserError, match="predicts 0 ms"):
        transfer(empty, measured(tmp_path / "there.jsonl", 12))


def unlike(arch: Arch, number: int) -> float:
    """A latency that has little to do with the arch."""
    return float(np.random.default_rng(int(arch.digest(), 16) % 2**32).uniform(0.5, 2.0))


def test_what_cannot_be_trusted_is_refused(tmp_path: Path) -> None:
    for change, named in (
        ({"num": LEAST_NETWORKS - 1}, f"has {LEAST_NETWORKS - 1} networks"),
        ({"rounds": 1}, "measured in one round"),
        ({"change": noise(0.3)}, "quiet"),
        ({"change": unlike}, "not similar enough"),
        ({"num_keypoints": 3}, "num_keypoints"),
        ({"settings": asdict(replace(OTHER, batch=4))}, r"settings\.batch"),
        ({"networks": [{}]}, r"networks\[0\]"),
    ):
        path = measured(tmp_path / "there.jsonl", **{"num": 12, **change})  # type: ignore[arg-type]
        with pytest.raises(UserError, match=named) as caught:
            transfer(SOURCE, path)
        assert "\n" not in str(caught.value)
    other = SearchSpace.from_dict({**SPACE.to_dict(), "stem_widths": [8, 16]})
    with pytest.raises(UserError, match="space_digest"):
        transfer(fake_table(other), measured(tmp_path / "there.jsonl", 12))
