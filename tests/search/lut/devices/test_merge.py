"""Measurements of kits become a table, and wrong or foreign files are refused."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.lut.devices.merge import merge
from search.lut.workloads import fitting_networks
from supernet.costs.latency_blocks import blocks_of_space
from supernet.errors import UserError
from tests.helpers.latency_tables import NUM_KEYPOINTS, SPACE

Json = dict[str, Any]


def written(lines: list[Json], path: Path) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def taking(lines: list[Json], factor: float) -> list[Json]:
    """The lines of a device on which everything takes ``factor`` times as long."""
    return [lines[0], *({**line, "ms": [factor * value for value in line["ms"]]} for line in lines[1:])]


def test_what_comes_back_becomes_a_table(measured: list[Json], tmp_path: Path) -> None:
    table = merge([written(measured, tmp_path / "out.jsonl")])
    assert set(table.entries) == set(blocks_of_space(SPACE, NUM_KEYPOINTS))
    assert (table.settings.device, table.settings.threads, table.settings.batch) == ("board", 1, 1)
    assert (table.space, table.num_keypoints) == (SPACE, NUM_KEYPOINTS)
    assert tuple(network.arch for network in table.networks) == fitting_networks(SPACE, 3, seed=0)
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.write(tmp_path / "out.jsonl", "back/out.jsonl")
    assert merge([tmp_path / "out.zip"]).to_dict() == table.to_dict()


def test_rounds_of_several_files_are_taken_together(measured: list[Json], tmp_path: Path) -> None:
    paths = [written(taking(measured, factor), tmp_path / f"{factor}.jsonl") for factor in (1.0, 0.9, 1.1)]
    single, three = merge(paths[:1]), merge(paths)
    for block, entry in single.entries.items():
        assert three.entries[block].runs == 3 * entry.runs
        assert three.entries[block].p50_ms == entry.p50_ms


def test_a_file_and_its_continuation_do_not_count_twice(measured: list[Json], tmp_path: Path) -> None:
    continued = [*measured, *({**line, "round": 1} for line in taking(measured, 1.1)[1:])]
    first, whole = written(measured, tmp_path / "first.jsonl"), written(continued, tmp_path / "whole.jsonl")
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.write(whole, "whole.jsonl")
    merge([whole])
    for paths in ([first, whole], [whole, first], [whole, whole], [first, tmp_path / "whole.zip"]):
        with pytest.raises(UserError, match="repeats the visits"):
            merge(paths)


def test_a_zip_may_hold_what_macos_adds(measured: list[Json], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.write(written(measured, tmp_path / "out.jsonl"), "out.jsonl")
        archive.writestr("__MACOSX/._out.jsonl", b"\0\5\26\7\0\2")
    assert merge([tmp_path / "out.zip"]).to_dict() == merge([tmp_path / "out.jsonl"]).to_dict()


def test_a_fault_in_a_zip_is_named_with_the_zip(measured: list[Json], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("back/out.jsonl", json.dumps(measured[0]) + "\nhello\n")
    with pytest.raises(UserError, match=r"line 2 of back/out\.jsonl in .*out\.zip"):
        merge([tmp_path / "out.zip"])


def of_header(**fields: Any) -> Callable[[list[Json]], None]:
    return lambda lines: lines[0].update(fields)


def of_visit(**fields: Any) -> Callable[[list[Json]], None]:
    return lambda lines: lines[4].update(fields)


FAULTS: dict[str, tuple[Callable[[list[Json]], object], str]] = {
    "unit": (of_header(unit="us"), "unit is 'us'"),
    "version": (of_header(version=7), "version is 7"),
    "keypoints": (of_header(num_keypoints=17), "subject is 'prediction .*', which is not in the space"),
    "space": (of_header(space_digest="ab"), "space_digest is 'ab'"),
    "networks": (of_header(networks=[{}]), r"networks\[0\]: the arch lacks"),
    "repeated": (
        lambda lines: lines[0]["networks"].append(lines[0]["networks"][1]),
        r"networks\[3\] repeats networks\[1\]",
    ),
    "threads": (lambda lines: lines[0]["settings"].update(threads="2"), "settings.threads must be .*, got '2'"),
    "missing": (lambda lines: lines.pop(6), r"1 of \d+ subjects were not measured, first"),
    "only networks": (
        lambda lines: lines.__setitem__(slice(1, None), [line for line in lines[1:] if "network" in line["subject"]]),
        r"only networks were measured.*python -m search\.lut transfer",
    ),
    "twice": (lambda lines: lines.append(lines[5]), r"line \d+ repeats the subject"),
    "unknown": (of_visit(subject="attention 8"), "line 5: subject is 'attention 8'"),
    "negative": (of_visit(ms=[0.1, -0.1]), r"line 5: ms\[1\] of .* must be above 0 .* got -0.1;"),
    "zero": (of_visit(ms=[0]), r"line 5: ms\[0\] of .* must be above 0 .* got 0;"),
    "not a number": (of_visit(ms=[float("nan")]), r"line 5: ms\[0\] of .* must be above 0 .* got nan;"),
    "text": (of_visit(ms=["1"]), r"line 5: ms\[0\] of .* must be above 0 .* got '1';"),
    "none": (of_visit(ms=[]), r"line 5: ms must be .*, got \[\]"),
    "extra": (of_visit(note=1), "line 5 must be an object with round, subject and ms"),
    "round": (of_visit(round="1"), "line 5: round must be .*, got '1'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_measurements_are_refused(fault: str, measured: list[Json], tmp_path: Path) -> None:
    change, named = FAULTS[fault]
    lines: list[Json] = json.loads(json.dumps(measured))
    change(lines)
    with pytest.raises(UserError, match=named) as caught:
        merge([written(lines, tmp_path / "out.jsonl")])
    assert "\n" not in str(caught.value)


def test_measurements_of_different_devices_are_not_mixed(measured: list[Json], tmp_path: Path) -> None:
    other: list[Json] = json.loads(json.dumps(measured))
    other[0]["settings"]["threads"] = 4
    paths = [written(measured, tmp_path / "one.jsonl"), written(other, tmp_path / "other.jsonl")]
    with pytest.raises(UserError, match=r"settings\.threads of .*other\.jsonl differs from that of .*one\.jsonl"):
        merge(paths)


def test_a_zip_that_leads_outside_itself_is_refused(measured: list[Json], tmp_path: Path) -> None:
    good = written(measured, tmp_path / "out.jsonl")
    for name in ("../out.jsonl", "/etc/out.jsonl", "a/../../out.jsonl", "..\\out.jsonl", "C:\\out.jsonl"):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            archive.write(good, "out.jsonl")
            archive.writestr(zipfile.ZipInfo(name), "{}")
        with pytest.raises(UserError, match="path outside the zip"):
            merge([tmp_path / "bad.zip"])
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("a.jsonl", "b.jsonl"):
            archive.write(good, name)
    with pytest.raises(UserError, match=r"exactly one file \*\.jsonl, got 2"):
        merge([tmp_path / "two.zip"])
    whole = (tmp_path / "two.zip").read_bytes()
    (tmp_path / "damaged.zip").write_bytes(whole[:40] + b"\0" * 2000 + whole[2040:])
    with pytest.raises(UserError):
        merge([tmp_path / "damaged.zip"])


def test_a_zip_whose_member_ends_too_early_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "short.zip", "w") as archive:
        archive.writestr("out.jsonl", "{}")
    content = bytearray((tmp_path / "short.zip").read_bytes())
    sizes = content.rindex(b"PK\x01\x02") + 20  # of the member, in the directory at the end
    content[sizes : sizes + 8] = struct.pack("<II", 1_000_000, 1_000_000)
    (tmp_path / "short.zip").write_bytes(content)
    with pytest.raises(UserError, match="cannot read the zip"):
        merge([tmp_path / "short.zip"])
