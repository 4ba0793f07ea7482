"""Paths and names on a command line arrive as they were typed, in both kinds of commands."""

import dataclasses
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from search.runs.evolution_run import EvolveSettings
from search.runs.optuna_run import OptunaRunSettings
from supernet import evaluate
from supernet.cli.arguments import CommandLine
from supernet.cli.hydra_app import compose_config, dataset_config
from supernet.cli.text_options import LIST_OPTIONS, PATH_OPTIONS, TEXT_OPTIONS, quoted
from supernet.evaluation.run import EvaluateSettings
from supernet.pose.check import CheckSettings
from supernet.pose.check import main as check
from supernet.training.settings import TrainSettings
from tests.helpers.coco_files import write_custom_set

AWKWARD = "größe [1] {a}=b, c#~d'e\"f (2) 人 & x*?;\\"
NOT_TEXT = {"device", "split", "sampler", "precision"}
"""Options that are words of a fixed list."""


def arrived(word: str, *others: str) -> object:
    override = OverridesParser.create().parse_override(quoted([word, *others])[0])
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else override.value()


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1))
@example("~/x")
@example("a=b")
@example("a,b")
@example("[x]")
@example("{x}")
@example("2024")
@example("true")
@example("end\\")
@example("it's")
@example(" space ")
@example(AWKWARD)
def test_any_text_is_taken_as_it_is(text: str) -> None:
    in_quotes = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if text != "null" and "${" not in text and not in_quotes:
        assert arrived(f"runs={text}") == text


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("name=null", None),
        ("name='a b'", "a b"),
        ('runs="a,b"', "a,b"),
        ("supernet=${runs}/train/x", "${runs}/train/x"),
        ("supernet=${runs}/größe", "${runs}/größe"),
        ("steps=3", 3),
        ("scales=[0.5,1]", [0.5, 1]),
        ("+dataset.root=[x]", "[x]"),
        ("dataset.category=[cat,dog]", ["cat", "dog"]),
        ("dataset.category=[großer Hund, 2]", ["großer Hund", "2"]),
        ("dataset.category=['a,b',c]", ["a,b", "c"]),
        ("dataset.category=[1] cat", "[1] cat"),
        ("dataset.keypoints.names=[linkes Öhr,鼻, k(1)]", ["linkes Öhr", "鼻", "k(1)"]),
        ("dataset.keypoints.names=['a,b',\"ö\"]", ["a,b", "ö"]),
        ("dataset.keypoints.unpaired=[]", []),
        ("dataset.keypoints.flip_pairs=[[linkes Öhr, rechtes Öhr],[1,2]]", [["linkes Öhr", "rechtes Öhr"], [1, 2]]),
        ("dataset.keypoints.skeleton=[[ä,1~],[3, 4]]", [["ä", "1~"], [3, 4]]),
        ("dataset.keypoints.skeleton=[]", []),
        ("dataset.keypoints.skeleton=null", None),
    ],
)
def test_what_has_a_meaning_of_its_own_keeps_it(word: str, value: object) -> None:
    assert arrived(word) == value


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("runs=a,b", ["a", "b"]),
        ("runs=größe [1],b", ["'größe [1]'", "b"]),
        ("runs=it's,b", ["'it\\'s'", "b"]),
        ("runs='a,b',c", ["'a,b'", "c"]),
        ("name=choice(a,b)", ["a", "b"]),
        ("seed=1,2", ["1", "2"]),
    ],
)
def test_commas_separate_the_values_of_a_sweep(word: str, values: list[str]) -> None:
    assert arrived(word, "--multirun") == values


def test_every_option_that_is_a_text_is_listed() -> None:
    for settings in (TrainSettings, EvaluateSettings, EvolveSettings, OptunaRunSettings, CheckSettings):
        texts = {field.name for field in dataclasses.fields(settings) if field.type in ("str", "str | None", str)}
        texts |= {field.name for field in dataclasses.fields(settings) if field.type == str | None}
        assert texts - NOT_TEXT <= TEXT_OPTIONS, settings


def test_a_home_folder_is_found_on_the_command_line_and_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = compose_config("train", ["dataset=coco", "dataset.root=~/data", "runs=~", "name=~/x"])
    assert (config["dataset"]["root"], config["runs"]) == (f"{tmp_path}/data", str(tmp_path))
    assert config["name"] == "~/x"
    assert dataset_config("coco", ["dataset.root=~/data"])["root"] == f"{tmp_path}/data"
    parser = CommandLine("program")
    parser.add_argument("--model", metavar="FOLDER", type=Path)
    parser.add_argument("sources", metavar="SOURCE", nargs="*")
    parser.add_argument("--name", metavar="NAME")
    options = parser.parse_args(["--model=~/x", "--name=~/x", "~/a [1]/*.jpg", "a~b"])
    assert options.model == tmp_path / "x"
    assert options.sources == [f"{tmp_path}/a [1]/*.jpg", "a~b"]
    assert options.name == "~/x"


def test_commands_with_configuration_files_read_and_write_at_any_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / AWKWARD
    write_custom_set(folder)
    splits = [
        f"dataset.{name}.{key}={value}"
        for name, split in (("train", "train"), ("val", "val"), ("test", "val"))
        for key, value in (("annotations", f"annotations/{split}.json"), ("images", split))
    ]
    words = ["dataset=custom", f"dataset.root={folder}", "dataset.category=dancer", *splits, f"output={folder / 'out'}"]
    monkeypatch.setattr(sys, "argv", ["check", *words])
    check()
    assert "no faults" in capsys.readouterr().out
    assert (folder / "out" / "summary.json").exists()


@pytest.mark.parametrize("option", ["weights", "runs"])
def test_a_message_shows_a_path_as_it_was_typed(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", f"{option}={tmp_path / AWKWARD}"])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    assert stop.value.code == 2
    assert str(tmp_path / AWKWARD) in capsys.readouterr().err


def test_paths_are_texts() -> None:
    assert PATH_OPTIONS < TEXT_OPTIONS
    assert "dataset.category" in LIST_OPTIONS & TEXT_OPTIONS
