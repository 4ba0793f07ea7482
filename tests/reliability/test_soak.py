"""The soak: its damage to files, its judgement of commands, its comparisons; and a short soak."""

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
from scripts.soaking.counts import CONTINUED, REPORTED, Counts, Fault
from scripts.soaking.cycle import Broken, Cycle
from scripts.soaking.fault_planner import Changes, FaultPlanner, Injection
from scripts.soaking.faults import CUT, FLIP, GARBAGE
from scripts.soaking.outcomes import FINISHED, KILLED, REFUSED, STOPPED, error_message, outcome_of, problem_of
from scripts.soaking.process import ROOT, Clock, CommandResult, Interruption, run
from scripts.soaking.reference import Reference
from scripts.soaking.stages import STAGES, Stage
from supernet.checkpoints import container
from supernet.errors import UserError
from supernet.io import files

LINES = b'{"step": 0}\n{"step": 1}\n{"step": 2}\n'
ERROR = "error: a is damaged; restore it"
WARNING = "warning: a is odd\n"


def command_result(status: int, stderr: str = "", interrupted: bool = False, hung: bool = False) -> CommandResult:
    return CommandResult(("-m", "x"), status, stderr, "", interrupted, hung)


def test_a_flip_changes_a_bit_a_cut_truncates_and_garbage_adds_a_line() -> None:
    rng = random.Random(0)
    for _ in range(50):
        flipped, _ = faults.flipped(LINES, rng)
        assert sum((new ^ old).bit_count() for new, old in zip(flipped, LINES, strict=True)) == 1
        cut, _ = faults.cut(LINES, rng)
        assert len(cut) < len(LINES)
        assert LINES.startswith(cut)
        garbage, _ = faults.with_garbage(LINES, rng)
        lines = garbage.split(b"\n")
        assert any(b"\n".join(lines[:i] + lines[i + 1 :]) in (LINES, LINES[:-1]) for i in range(len(lines)))


@pytest.mark.parametrize("kind", [FLIP, CUT, GARBAGE])
def test_damage_is_recognised_while_present_and_can_be_undone(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LINES)
    damage = faults.damage(path, kind, random.Random(1))
    assert damage is not None
    assert damage.is_present()
    assert path.read_bytes() != LINES
    damage.restore()
    assert path.read_bytes() == LINES
    assert not damage.is_present()
    (tmp_path / "empty").touch()
    assert faults.damage(tmp_path / "empty", kind, random.Random(1)) is None
    assert faults.damage(tmp_path / "missing", kind, random.Random(1)) is None


def test_leftovers_are_those_that_the_project_removes(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("run")
    for name in ("checkpoint.pt", "model", "latest"):
        faults.leave_temporary(tmp_path / name, random.Random(2))
    left = faults.leftovers(tmp_path)
    assert len(left) == 3
    assert sorted(files.sweep(tmp_path) + files.sweep(tmp_path, "model")) == left
    assert faults.leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (command_result(0, WARNING), FINISHED),
        (command_result(2, WARNING + ERROR + "\n"), REFUSED),
        (command_result(2, "error: stopped after 3 steps; continue with resume=x"), STOPPED),
        (command_result(-signal.SIGKILL, WARNING, interrupted=True), KILLED),
        (command_result(-signal.SIGKILL), None),  # not by the soak
        (command_result(-signal.SIGSEGV), None),
        (command_result(1, "Traceback (most recent call last):\nKeyError: 1"), None),
        (command_result(0, "Exception ignored in: x"), None),
        (command_result(2, "usage: x"), None),
        (command_result(2, f"{ERROR}\n{ERROR}"), None),
        (command_result(2, f"{ERROR}\nand more"), None),
        (command_result(1, ERROR), None),
        (command_result(2, ERROR, hung=True), None),
    ],
)
def test_a_command_may_only_finish_stop_refuse_or_be_killed(result: CommandResult, expected: str | None) -> None:
    assert outcome_of(result) == expected
    assert (problem_of(result) is None) == (expected is not None)


def test_the_error_of_a_refused_command_is_its_last_line() -> None:
    assert error_message(command_result(2, WARNING + ERROR)) == "a is damaged; restore it"
    assert error_message(command_result(2, "")) == ""


def script(text: str) -> list[str]:
    return ["-c", text]


class ClockFromStart(Clock):
    """A clock that stands still until a process has written a file to show that it runs."""

    def __init__(self, started: Path) -> None:
        super().__init__()
        self.started = started

    def tick(self) -> float:
        """See ``Clock``."""
        return super().tick() if self.started.exists() else 0.0


def test_a_process_is_interrupted_limited_and_killed_when_it_hangs(tmp_path: Path) -> None:
    clock = Clock()
    started = tmp_path / "started"
    wait = f"import time; open({str(started)!r}, 'w').close(); time.sleep(60)"
    interruption = Interruption("SIGTERM", lambda process: process.terminate(), started.exists, 0.01)
    result = run(script(wait), sys.executable, clock, 30.0, interruption)
    assert (result.status, result.interrupted, result.hung) == (-signal.SIGTERM, True, False)
    started.unlink()
    result = run(script(wait), sys.executable, ClockFromStart(started), 0.5)
    assert result.hung
    assert "Fatal Python error: Aborted" in result.stderr  # where it hung
    write = f"from pathlib import Path; print('x' * 5000); Path({str(started)!r}).write_text('x' * 5000)"
    result = run(script(write), sys.executable, clock, 30.0, largest_file=1000)
    assert "File too large" in result.stderr
    assert len(result.stdout) == 5001  # the limit applies to files only
    assert run(script(write), sys.executable, clock, 30.0).status == 0


def test_changes_are_counted_from_the_first_observation() -> None:
    seen = iter([1, 1, 2, 2, 3, 1])
    changes = Changes(lambda: next(seen), 2)
    assert [changes() for _ in range(5)] == [False, False, False, True, True]


def test_one_of_two_checkpoints_always_stays_good(tmp_path: Path) -> None:
    train = STAGES[0]
    assert train.name == "train"
    newest = tmp_path / results.CHECKPOINTS["train"]
    for step in (4, 8):
        container.save(newest, "training", {"trainer": {"step": step}}, keep_previous=True)
    assert results.good_step(tmp_path, "train") == 8
    planner = FaultPlanner(train, tmp_path, random.Random(0), Reference({}, {}, {}, {}))
    damages: list[faults.Damage] = []
    for _ in range(30):
        drawn = planner.damage_file([damage.path for damage in damages])
        if drawn is not None and drawn[1] is not None:
            damages.append(drawn[1])
    (damage,) = damages
    assert damage.path in (newest, container.previous_of(newest))
    assert results.good_step(tmp_path, "train") == (4 if damage.path == newest else 8)
    damage.path.unlink()
    other = container.previous_of(newest) if damage.path == newest else newest
    other.write_bytes(b"half")
    with pytest.raises(UserError, match="damaged"):
        results.good_step(tmp_path, "train")


def test_only_a_small_separate_disk_is_filled(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be an empty folder"):
        small_disk(tmp_path / "none", tmp_path)
    (tmp_path / "disk").mkdir()
    with pytest.raises(UserError, match="must be a separate file system of at most"):
        small_disk(tmp_path / "disk", tmp_path)


BEGIN = "import sys; from pathlib import Path; out = Path(sys.argv[1]) / 'out'; out.mkdir(exist_ok=True); "
RESULT, SUMMARY = "(out / 'result').write_text('1'); ", "(out / 'summary.json').write_text('{}'); "


@pytest.mark.parametrize(
    ("misbehaviour", "what"),
    [
        (RESULT + SUMMARY, None),
        ("raise KeyError", "printed 'Traceback (most recent call last)'"),
        ("sys.exit('no')", "ended with status 1"),
        ("print('error: no', file=sys.stderr); sys.exit(2)", "refused, but the error names no damaged file: no"),
        (RESULT, "ended with status 0, but out/summary.json is missing"),
        (SUMMARY, "the output cannot be read"),
        (RESULT + SUMMARY + "(out / 'result').write_text('2')", "differs from the undisturbed result: text '2'"),
        (RESULT + SUMMARY + "(out / '.result.tmp5').touch()", "finished with leftovers: .result.tmp5"),
    ],
)
def test_each_misbehaviour_of_a_command_is_a_defect(
    misbehaviour: str, what: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = [RESULT + SUMMARY, misbehaviour]

    def command(folder: Path, _: bool) -> list[str]:
        return ["-c", BEGIN + actions[0], str(folder)]

    def is_done(folder: Path) -> bool:
        return (folder / "out" / "summary.json").exists()

    def result(folder: Path) -> dict[str, str]:
        return {"text": (folder / "out" / "result").read_text()}

    monkeypatch.setattr(cycle, "STAGES", [Stage("fake", command, "out", is_done, {}, (), ("out/*",), result)])
    monkeypatch.setattr(FaultPlanner, "draw_injection", lambda *_: Injection())
    clock, counts = Clock(), Counts()

    def in_folder(name: str, reference: Reference | None) -> Cycle:
        folder = tmp_path / name
        folder.mkdir()
        return Cycle(1, folder, folder, random.Random(0), clock, counts, reference, lambda: None)

    reference = in_folder("undisturbed", None).undisturbed()
    assert reference.results == {"fake": {"text": "1"}}
    del actions[0]
    with nullcontext() if what is None or "leftovers" in what else pytest.raises(Broken):
        in_folder("disturbed", reference).disturbed()
    assert [defect.what[: len(what or "")] for defect in counts.defects] == ([] if what is None else [what])


def test_at_most_a_second_of_a_stopped_period_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock()
    for seconds in (0.25, 3600.0, 0.25):
        now[0] += seconds
        clock.tick()
    assert clock.seconds == 1.5


def test_results_are_compared_completely_but_scores_only_for_common_archs() -> None:
    reference = {"weights": "a", "log": {"0": 1.0}}
    assert results.differences(reference, reference) == []
    assert results.differences(reference, {"weights": "b", "log": {"0": 1.0}}) == ["weights 'b' instead of 'a'"]
    scores = {"evaluations": 2, "scores": {"x": {"AP": 0.5}, "y": {"AP": 0.25}}}
    others = {"evaluations": 2, "scores": {"x": {"AP": 0.5}, "z": {"AP": 0.125}}}
    assert results.differences(scores, others) == []
    others["scores"] = {"x": {"AP": 0.125}}
    assert results.differences(scores, others) == ["scores.x.AP 0.125 instead of 0.5"]


def test_logged_steps_ignore_a_truncated_line(tmp_path: Path) -> None:
    assert results.logged_steps(tmp_path) == 0
    path = tmp_path / results.TRAIN_LOG
    path.parent.mkdir(parents=True)
    path.write_text('{"step": 0}\n{"step": 1}\n{"step')
    assert results.logged_steps(tmp_path) == 2


def test_the_report_counts_by_kind_and_stage_and_is_json() -> None:
    counts = Counts(cycles=2, lost_steps=[0, 4])
    counts.faults = [
        Fault("train", FLIP, "", REPORTED),
        Fault("train", CUT, "", CONTINUED, True),
        Fault("evolve", FLIP, ""),
    ]
    report = json.loads(json.dumps(counts.report()))
    assert (report["faults"], report["survived"]) == (3, 2)
    assert report["by_kind"][FLIP] == {"injected": 2, REPORTED: 1, "open": 1, "named in a warning": 0}
    assert report["by_stage"]["train"] == {"injected": 2, REPORTED: 1, CONTINUED: 1, "named in a warning": 1}
    assert report["work_lost"]["training_steps"] == {"interruptions": 2, "most": 4, "sum": 4}
    assert report["versions"]["torch"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_short_soak_finds_no_defect_and_writes_its_report(tmp_path: Path) -> None:
    out = tmp_path / "soak"
    command = [sys.executable, "-m", "scripts.soak", "--minutes=1.5", f"--out={out}", "--seed=7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / "soak.json").read_text())
    assert report["faults"] == report["survived"]  # few on a busy machine
    assert report["commands"] > 0
    assert report["defects"] == []
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert again.returncode == 2
    assert again.stderr == f"error: {out} is not empty; choose another --out or remove it\n"
