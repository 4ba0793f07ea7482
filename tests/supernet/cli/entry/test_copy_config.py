"""A copied configuration is used as the printed command says, and has the options of the original."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from supernet.io.conf_folder import CONF_FOLDER

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("choice", "options"),
    [
        ("experiment=coco", "dataset.root=/data"),
        ("space=nano_long", ""),
        ("dataset=coco_people", "dataset.root=/data"),
        ("phases=sandwich", ""),
        ("constraint=s", ""),
    ],
)
def test_a_copy_is_used_as_the_printed_command_says(choice: str, options: str, litepose: Run) -> None:
    group, _, name = choice.partition("=")
    status, shown, errors = litepose(f"copy-config {choice}")
    assert (status, errors) == (0, "")
    path, command = shown.splitlines()
    assert path == f"recipes/{group}/my_{name}.yaml"
    command = command.partition("litepose ")[2]
    original = litepose(f"{command.split()[0]} {choice} {options} --cfg job")
    copied = litepose(f"{command} {options} --cfg job")
    assert original[0] == copied[0] == 0
    first, second = (yaml.safe_load(done[1]) for done in (original, copied))
    if group == "space":
        assert second["space"].pop("name") == f"my_{name}"
        assert first["space"].pop("name") == name
    assert first == second


def test_the_printed_command_quotes_its_folder(litepose: Run) -> None:
    for option, choice in (("--config-dir=a&b/recipes", "space=nano"), ("--config-path=a&b/conf", "all=true")):
        folder = option.partition("=")[2]
        _, shown, _ = litepose(f"copy-config {choice} folder={folder}")
        assert option in shlex.split(shown.splitlines()[1])


def test_a_changed_copy_changes_the_configuration(litepose: Run) -> None:
    assert litepose("copy-config --experiment overfit --name small --folder mine")[0] == 0
    path = Path("mine/experiment/small.yaml")
    path.write_text(path.read_text().replace("steps: 3600", "steps: 12"))
    _, shown, _ = litepose("train --config-dir mine --experiment small --cfg job")
    assert yaml.safe_load(shown)["steps"] == 12


def test_the_whole_folder_can_be_copied(litepose: Run) -> None:
    status, shown, _ = litepose("copy-config all=true folder=mine")
    assert status == 0
    command = shown.splitlines()[1].partition("litepose ")[2]
    copied = {path.relative_to("mine") for path in Path("mine").rglob("*.yaml")}
    assert copied == {path.relative_to(CONF_FOLDER) for path in CONF_FOLDER.rglob("*.yaml")}
    path = Path("mine/train.yaml")
    path.write_text(path.read_text().replace("steps: 5800", "steps: 12"))
    _, shown, _ = litepose(f"{command} --cfg job")
    assert yaml.safe_load(shown)["steps"] == 12


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("", "--experiment"),
        ("experiment=nowhere", "nowhere"),
        ("experiment=coco space=nano", "--space"),
        ("phases=sandwich name=progressive", "progressive"),
        ("phases=sandwich name=a/b", "a/b"),
        ("phases=sandwich folder=there", "there/phases/my_sandwich.yaml"),
        ("all=true folder=there", "there"),
        ("all=true name=x", "--name"),
    ],
)
def test_nothing_is_overwritten_and_mistakes_are_errors(line: str, what: str, litepose: Run) -> None:
    Path("there/phases").mkdir(parents=True)
    Path("there/phases/my_sandwich.yaml").write_text("mine")
    status, shown, errors = litepose(f"copy-config {line}")
    assert (status, shown) == (2, "")
    assert what in errors
    assert errors.count("\n") == 1
    assert os.listdir() == ["there"]
    assert Path("there/phases/my_sandwich.yaml").read_text() == "mine"
