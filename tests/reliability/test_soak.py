"""What the soak does to files, and how it judges commands; and a short soak."""

import json
import random
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from scripts.soak import small_disk
from scripts.soaking import cycle, faults, results
from scripts.soaking.aim import Aim, Attack, Changes
from scripts.soaking.cycle import Broken, Cycle
from scripts.soaking.faults import CUT, FLIP, GARBAGE
from scripts.soaking.judge import FINISHED, KILLED, REFUSED, STOPPED, complaint, sentence, verdict
from scripts.soaking.process import ROOT, Clock, Ended, Strike, run
from scripts.soaking.reference import Reference
from scripts.soaking.stages import STAGES, Stage
from scripts.soaking.tally import CONTINUED, TOLD, Fault, Tally
from supernet.checkpoints import container
from supernet.errors import UserError
from supernet.io import files

LINES = b'{"step": 0}\n{"step": 1}\n{"step": 2}\n'
ERROR = "error: a is damaged; restore it"
WARNING = "/x.py:3: UserWarning: a is odd\n  warnings.warn(\n"


def ended(status: int, told: str = "", struck: bool = False, hung: bool = False) -> Ended:
    return Ended(("-m", "x"), status, told, "", struck, hung)


def test_a_flip_changes_one_bit_a_cut_leaves_a_beginning_and_garbage_one_line_more() -> None:
    rng = random.Random(0)
    for _ in range(50):
        flipped, _ = faults.flipped(LINES, rng)
        assert sum((one ^ other).bit_count() for one, other in zip(flipped, LINES, strict=True)) == 1
        cut, _ = faults.cut(LINES, rng)
        assert len(cut) < len(LINES)
        assert LINES.startswith(cut)
        garbage, _ = faults.with_garbage(LINES, rng)
        lines = garbage.split(b"\n")
        assert any(b"\n".join(lines[:i] + lines[i + 1 :]) in (LINES, LINES[:-1]) for i in range(len(lines)))


@pytest.mark.parametrize("kind", [FLIP, CUT, GARBAGE])
def test_damage_is_known_while_it_is_there_and_can_be_taken_back(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LINES)
    found = faults.damage(path, kind, random.Random(1))
    assert found is not None
    assert found.is_there()
    assert path.read_bytes() != LINES
    found.restore()
    assert path.read_bytes() == LINES
    assert not found.is_there()
    (tmp_path / "empty").touch()
    assert faults.damage(tmp_path / "empty", kind, random.Random(1)) is None
    assert faults.damage(tmp_path / "missing", kind, random.Random(1)) is None


def test_what_is_left_is_what_the_project_sweeps(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("run")
    for name in ("checkpoint.pt", "model", "latest"):
        faults.leave_temporary(tmp_path / name, random.Random(2))
    left = faults.leftovers(tmp_path)
    assert len(left) == 3
    assert sorted(files.sweep(tmp_path) + files.sweep(tmp_path, "model")) == left
    assert faults.leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (ended(0, WARNING), FINISHED),
        (ended(2, WARNING + ERROR + "\n"), REFUSED),
        (ended(2, "error: stopped after 3 steps; continue with resume=x"), STOPPED),
        (ended(-signal.SIGKILL, WARNING, struck=True), KILLED),
        (ended(-signal.SIGKILL), None),  # by whom?
        (ended(-signal.SIGSEGV), None),
        (ended(1, "Traceback (most recent call last):\nKeyError: 1"), None),
        (ended(0, "Exception ignored in: x"), None),
        (ended(2, "usage: x"), None),
        (ended(2, f"{ERROR}\n{ERROR}"), None),
        (ended(2, f"{ERROR}\nand more"), None),
        (ended(1, ERROR), None),
        (ended(2, ERROR, hung=True), None),
    ],
)
def test_a_command_may_finish_stop_refuse_or_be_killed_and_nothing_else(how: Ended, expected: str | None) -> None:
    assert verdict(how) == expected
    assert (complaint(how) is None) == (expected is not None)


def test_the_sentence_of_a_refusal_is_its_last_line() -> None:
    assert sentence(ended(2, WARNING + ERROR)) == "a is damaged; restore it"
    assert sentence(ended(2, "")) == ""


def script(text: str) -> list[str]:
    return ["-c", text]


def test_a_process_is_struck_limited_and_ended_when_it_hangs(tmp_path: Path) -> None:
    clock = Clock()
    sign = tmp_path / "sign"
    wait = f"import time; open({str(sign)!r}, 'w').close(); time.sleep(60)"
    strike = Strike("SIGTERM", lambda process: process.terminate(), sign.exists, 0.01)
    found = run(script(wait), sys.executable, clock, 30.0, strike)
    assert (found.status, found.struck, found.hung) == (-signal.SIGTERM, True, False)
    found = run(script(wait), sys.executable, clock, 0.5)
    assert found.hung
    assert "Fatal Python error: Aborted" in found.told  # where it hung
    write = f"from pathlib import Path; print('x' * 5000); Path({str(sign)!r}).write_text('x' * 5000)"
    found = run(script(write), sys.executable, clock, 30.0, largest_file=1000)
    assert "File too large" in found.told
    assert len(found.printed) == 5001  # the limit is on files alone
    assert run(script(write), sys.executable, clock, 30.0).status == 0


def test_changes_are_counted_from_the_first_look() -> None:
    seen = iter([1, 1, 2, 2, 3, 1])
    changes = Changes(lambda: next(seen), 2)
    assert [changes() for _ in range(5)] == [False, False, False, True, True]


def test_of_two_checkpoints_one_is_always_left_good(tmp_path: Path) -> None:
    train = STAGES[0]
    assert train.name == "train"
    newest = tmp_path / results.CHECKPOINTS["train"]
    for step in (4, 8):
        container.save(newest, "training", {"trainer": {"step": step}}, keep_previous=True)
    assert results.good_step(tmp_path, "train") == 8
    aim = Aim(train, tmp_path, random.Random(0), Reference({}, {}, {}, {}))
    damaged: list[faults.Damage] = []
    for _ in range(30):
        found = aim.damage([each.path for each in damaged])
        if found is not None and found[1] is not None:
            damaged.append(found[1])
    (only,) = damaged
    assert only.path in (newest, container.previous_of(newest))
    assert results.good_step(tmp_path, "train") == (4 if only.path == newest else 8)
    only.path.unlink()
    other = container.previous_of(newest) if only.path == newest else newest
    other.write_bytes(b"half")
    with pytest.raises(UserError, match="damaged"):
        results.good_step(tmp_path, "train")


def test_only_a_small_disk_of_its_own_is_filled(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be an empty folder"):
        small_disk(tmp_path / "none", tmp_path)
    (tmp_path / "disk").mkdir()
    with pytest.raises(UserError, match="give a file system of its own of at most"):
        small_disk(tmp_path / "disk", tmp_path)


BEGIN = "import sys; from pathlib import Path; out = Path(sys.argv[1]) / 'out'; out.mkdir(exist_ok=True); "
RESULT, SUMMARY = "(out / 'result').write_text('1'); ", "(out / 'summary.json').write_text('{}'); "


@pytest.mark.parametrize(
    ("misdeed", "what"),
    [
        (RESULT + SUMMARY, None),
        ("raise KeyError", "told 'Traceback (most recent call last)'"),
        ("sys.exit('no')", "ended with status 1"),
        ("print('error: no', file=sys.stderr); sys.exit(2)", "refused without a cause that it names: no"),
        (RESULT, "ended with status 0, but out/summary.json is not there"),
        (SUMMARY, "what it left cannot be read"),
        (RESULT + SUMMARY + "(out / 'result').write_text('2')", "the result is not the undisturbed one's: text '2'"),
        (RESULT + SUMMARY + "(out / '.result.tmp5').touch()", "finished with leftovers: .result.tmp5"),
    ],
)
def test_each_misdeed_of_a_command_is_a_defect(
    misdeed: str, what: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deeds = [RESULT + SUMMARY, misdeed]

    def command(folder: Path, _: bool) -> list[str]:
        return ["-c", BEGIN + deeds[0], str(folder)]

    def is_done(folder: Path) -> bool:
        return (folder / "out" / "summary.json").exists()

    def result(folder: Path) -> dict[str, str]:
        return {"text": (folder / "out" / "result").read_text()}

    monkeypatch.setattr(cycle, "STAGES", [Stage("fake", command, "out", is_done, {}, (), ("out/*",), result)])
    monkeypatch.setattr(Aim, "attack", lambda *_: Attack())
    clock, tally = Clock(), Tally()

    def in_folder(name: str, reference: Reference | None) -> Cycle:
        folder = tmp_path / name
        folder.mkdir()
        return Cycle(1, folder, folder, random.Random(0), clock, tally, reference, lambda: None)

    reference = in_folder("undisturbed", None).undisturbed()
    assert reference.results == {"fake": {"text": "1"}}
    del deeds[0]
    with nullcontext() if what is None or "leftovers" in what else pytest.raises(Broken):
        in_folder("disturbed", reference).disturbed()
    assert [defect.what[: len(what or "")] for defect in tally.defects] == ([] if what is None else [what])


def test_time_in_which_all_is_stopped_hardly_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock()
    for passed in (0.25, 3600.0, 0.25):
        now[0] += passed
        clock.tick()
    assert clock.seconds == 1.5


def test_results_are_compared_whole_and_scores_where_both_have_them() -> None:
    reference = {"weights": "a", "log": {"0": 1.0}}
    assert results.differences(reference, reference) == []
    assert results.differences(reference, {"weights": "b", "log": {"0": 1.0}}) == ["weights 'b' instead of 'a'"]
    scores = {"evaluations": 2, "scores": {"x": {"AP": 0.5}, "y": {"AP": 0.25}}}
    others = {"evaluations": 2, "scores": {"x": {"AP": 0.5}, "z": {"AP": 0.125}}}
    assert results.differences(scores, others) == []
    others["scores"] = {"x": {"AP": 0.125}}
    assert results.differences(scores, others) == ["scores.x.AP 0.125 instead of 0.5"]


def test_steps_that_were_lost_are_counted_from_the_log(tmp_path: Path) -> None:
    assert results.logged_steps(tmp_path) == 0
    path = tmp_path / results.TRAIN_LOG
    path.parent.mkdir(parents=True)
    path.write_text('{"step": 0}\n{"step": 1}\n{"step')
    assert results.logged_steps(tmp_path) == 2


def test_counts_are_by_kind_and_stage_and_json() -> None:
    tally = Tally(cycles=2, lost_steps=[0, 4])
    tally.faults = [Fault("train", FLIP, "", TOLD), Fault("train", CUT, "", CONTINUED, True), Fault("evolve", FLIP, "")]
    report = json.loads(json.dumps(tally.report()))
    assert (report["faults"], report["survived"]) == (3, 2)
    assert report["by_kind"][FLIP] == {"injected": 2, TOLD: 1, "open": 1, "told in a warning": 0}
    assert report["by_stage"]["train"] == {"injected": 2, TOLD: 1, CONTINUED: 1, "told in a warning": 1}
    assert report["work_lost"]["training_steps"] == {"interruptions": 2, "most": 4, "sum": 4}
    assert report["versions"]["torch"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_short_soak_finds_no_defect_and_leaves_its_counts(tmp_path: Path) -> None:
    out = tmp_path / "soak"
    command = [sys.executable, "-m", "scripts.soak", "--minutes=1.5", f"--out={out}", "--seed=7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / "soak.json").read_text())
    assert report["faults"] == report["survived"]  # few where others keep the machine busy
    assert report["commands"] > 0
    assert report["defects"] == []
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert again.returncode == 2
    assert again.stderr == f"error: {out} is not empty; choose another --out or remove it\n"
