"""``key=value`` and ``--key value`` mean the same in both kinds of commands; anything else is an error."""

import argparse
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernet.cli.arguments import CommandLine, whole_number
from supernet.cli.grammar import as_flags, as_overrides
from supernet.errors import UserError

OPTIONS = {
    "steps": "5800",
    "batch_size": "8",
    "plots": "false",
    "flip_test": "null",
    "evaluation.flip_test": "true",
    "dataset": "synthetic",
    "dataset.root": "null",
    "name": "null",
}
"""Options of a command with configuration files, and their defaults."""


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        (["--steps", "5"], ["steps=5"]),
        (["--steps=5"], ["steps=5"]),
        (["steps=5"], ["steps=5"]),
        (["--batch-size", "4"], ["batch_size=4"]),
        (["--batch_size=4"], ["batch_size=4"]),
        (["batch-size=4"], ["batch_size=4"]),
        (["--dataset", "coco", "--dataset.root", "/a=b"], ["dataset=coco", "dataset.root=/a=b"]),
        (["--dataset-root=/data"], ["dataset.root=/data"]),
        (["--plots"], ["plots=true"]),
        (["--plots", "steps=5"], ["plots=true", "steps=5"]),
        (["--plots", "false", "--no-plots"], ["plots=false", "plots=false"]),
        (["--no-evaluation.flip-test"], ["evaluation.flip_test=false"]),
        (["--flip-test", "--name", "true"], ["flip_test=true", "name=true"]),
        (["--flip-test", "steps=5"], ["flip_test=true", "steps=5"]),
        (["--flip-test", "false"], ["flip_test=false"]),
        (["--multirun", "seed=0,1", "-m"], ["--multirun", "-m", "seed=0,1"]),
        (["steps=5", "--config-dir", "mine", "dataset=my"], ["--config-dir", "mine", "steps=5", "dataset=my"]),
        (["--config-dir", "mine", "--cfg=job"], ["--config-dir", "mine", "--cfg=job"]),
        (["+evaluation.max_people=3", "~dataset", "++x=1"], ["+evaluation.max_people=3", "~dataset", "++x=1"]),
        (["--unknown", "3"], ["unknown=3"]),
        (["name=", "steps=5"], ["name=", "steps=5"]),
    ],
)
def test_both_forms_become_overrides(words: list[str], overrides: list[str]) -> None:
    assert as_overrides(words, OPTIONS) == overrides


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["steps", "5"], "steps=5"),
        (["steps:", "5"], "steps=5"),
        (["steps", "=", "5"], "steps=5"),
        (["steps=", "5"], "steps=5"),
        (["steps", "=5"], "steps=5"),
        (["-steps", "5"], "steps=5"),
        (["-steps=5"], "steps=5"),
        (["--steps"], "steps=5800"),
        (["--steps", "--plots"], "steps=5800"),
        (["batch-size", "4"], "batch_size=4"),
        (["--batch-size", "plots=true"], "batch_size=8"),
        (["name"], "name=VALUE"),
        (["5"], "steps=5800"),
    ],
)
def test_what_is_in_neither_form_is_answered_with_the_right_one(words: list[str], right: str) -> None:
    with pytest.raises(UserError, match=f"{right}$"):
        as_overrides(words, OPTIONS)


@pytest.mark.parametrize(
    ("words", "similar"), [(["--stepz"], "--steps"), (["-stepz=3"], "steps"), (["batchsize"], "batch_size")]
)
def test_a_wrong_name_is_answered_with_the_nearest(words: list[str], similar: str) -> None:
    with pytest.raises(UserError, match=f"did you mean {similar}"):
        as_overrides(words, OPTIONS)


@given(st.text(min_size=1).filter(lambda value: value not in ("=", ":") and not value.startswith("--")))
def test_any_value_arrives_in_both_forms(value: str) -> None:
    assert as_overrides([f"--name={value}"], OPTIONS) == [f"name={value}"] == as_overrides([f"name={value}"], OPTIONS)
    if "=" not in value:
        assert as_overrides(["--name", value], OPTIONS) == [f"name={value}"]


def command_line() -> CommandLine:
    """A command with one option of each kind."""
    parser = CommandLine("test")
    parser.add_argument("sources", metavar="SOURCE", nargs="*")
    parser.add_argument("--batch-size", type=whole_number(1), default=4)
    parser.add_argument("--model", metavar="FOLDER")
    parser.add_argument("--arch", metavar="FILE", nargs="+")
    parser.add_argument("--show", action="store_true")
    return parser


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("batch_size=2 a.jpg", {"batch_size": 2, "sources": ["a.jpg"]}),
        ("batch-size=2 a.jpg", {"batch_size": 2, "sources": ["a.jpg"]}),
        ("--batch_size 2 --model=x=y", {"batch_size": 2, "model": "x=y"}),
        ("--model show=true show=false", {"model": "show=true", "show": False}),
        ("show=true a.jpg", {"show": True, "sources": ["a.jpg"]}),
        ("--show a.jpg", {"show": True, "sources": ["a.jpg"]}),
        ("--show true a.jpg", {"show": True, "sources": ["a.jpg"]}),
        ("--show=false", {"show": False}),
        ("arch=a b.jpg", {"arch": ["a"], "sources": ["b.jpg"]}),
        ("arch=[a,b] model=x c.jpg", {"arch": ["a", "b"], "model": "x", "sources": ["c.jpg"]}),
        ("--arch a b model=x", {"arch": ["a", "b"], "model": "x"}),
        ("other=1.jpg", {"sources": ["other=1.jpg"]}),
        ("-- model=x show", {"model": None, "sources": ["model=x", "show"]}),
    ],
)
def test_both_forms_are_options_of_argparse(words: str, expected: dict[str, object]) -> None:
    options = vars(command_line().parse_args(words.split()))
    assert {name: options[name] for name in expected} == expected


def test_a_file_is_an_argument_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model=a.jpg", "show"):
        Path(name).touch()
    options = command_line().parse_args(["model=a.jpg", "show"])
    assert (options.sources, options.model, options.show) == (["model=a.jpg", "show"], None, False)


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("model x", "--model x or model=x"),
        ("batch-size 3", "--batch-size 3 or batch_size=3"),
        ("show", "--show"),
        ("modle=x", "did you mean model"),
        ("show=maybe", "true or false"),
    ],
)
def test_a_word_meant_as_an_option_is_no_argument(words: str, right: str) -> None:
    with pytest.raises(UserError, match=right):
        as_flags(words.split(), command_line())


def test_overrides_of_the_data_set_are_taken_in_both_forms() -> None:
    parser = CommandLine("test")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--dataset-root")
    words = ["dataset.root=/a", "--dataset.category", "cat", "--dataset.exif=auto", "dataset_root=/b"]
    options = parser.parse_args(words)
    assert options.overrides == ["dataset.root=/a", "dataset.category=cat", "dataset.exif=auto"]
    assert options.dataset_root == "/b"
    with pytest.raises(UserError, match="there is no option dataset_rot, did you mean dataset_root"):
        as_flags(["dataset_rot=/b"], parser)


def test_subcommands_have_the_grammar_of_their_own_options() -> None:
    parser = CommandLine("test")
    build = parser.add_subparsers(dest="command", required=True).add_parser("build")
    build.add_argument("--threads", type=int)
    assert isinstance(build, argparse.ArgumentParser)
    assert parser.parse_args(["build", "threads=3"]).threads == 3


def test_an_option_without_its_value_is_answered_with_the_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["test", "--model"])
    with pytest.raises(SystemExit) as stop:
        command_line().parse_args()
    assert stop.value.code == 2
    assert "--model FOLDER" in capsys.readouterr().err
