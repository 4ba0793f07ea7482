"""What is read from the comments of ``conf`` agrees with a YAML parser, and describes every option."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from supernet.cli.commands import COMMANDS
from supernet.cli.help_pages import help_text
from supernet.cli.option_docs import Page, all_options, choices, command_page, group_options, read_page
from supernet.io.conf_folder import CONF_FOLDER

WITH_CONFIG = [command for command in COMMANDS if command.config is not None]
FILES = sorted(path.relative_to(CONF_FOLDER).as_posix() for path in CONF_FOLDER.rglob("*.yaml"))


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by name, with dots; a list is a value."""
    if not isinstance(value, dict):
        return {prefix: value}
    nested = [leaves(inner, f"{prefix}.{key}" if prefix else str(key)) for key, inner in value.items()]
    return {name: leaf for part in nested for name, leaf in part.items()}


@pytest.mark.parametrize("name", FILES)
def test_names_and_defaults_are_those_of_a_yaml_parser(name: str) -> None:
    content = yaml.safe_load((CONF_FOLDER / name).read_text("utf-8"))
    expected = leaves({key: value for key, value in content.items() if key not in ("defaults", "hydra")})
    options = read_page(CONF_FOLDER / name).options
    found = {option.name: yaml.safe_load(option.default) for option in options if option.default}
    lists = {name for name, value in expected.items() if isinstance(value, list) and name not in found}
    assert found == {name: value for name, value in expected.items() if name not in lists}
    assert lists <= {option.name for option in options}, "a list over several lines is an option without a default"


@pytest.mark.parametrize("command", WITH_CONFIG, ids=lambda command: command.name)
def test_every_option_of_a_command_has_a_meaning_and_a_section(command: Any) -> None:
    page = command_page(command.config)
    assert page.summary
    assert len(page.examples) == 2
    assert [group.name for group in page.groups if not group.meaning] == []
    described = [option for option in page.options if option.default]
    assert [option.name for option in described if not option.meaning or not option.section] == []
    for group in page.groups:
        for choice, path in choices(group.name).items():
            assert read_page(path).summary, path
            if group.name in ("dataset", "constraint"):  # a space is described by its own comment
                options = group_options(group.name, choice)
                assert [option.name for option in options if option.default and not option.meaning] in (
                    [],
                    ["dataset.kind"],
                )


@pytest.mark.parametrize("command", WITH_CONFIG, ids=lambda command: command.name)
def test_examples_use_options_that_exist(command: Any) -> None:
    page = command_page(command.config)
    known = all_options(page)
    for example in page.examples:
        script, name, *words = example.replace("'", "").split()
        assert (script, name) == ("litepose", command.name)
        assert [word for word in words if word.partition("=")[0] not in known] == []


def test_a_meaning_goes_on_in_the_lines_below(tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"
    path.write_text(
        "# What it is. More of it.\n# Examples:\n#   litepose train a=1\ndefaults:\n  - _self_\n  - base\n"
        "  - group: chosen  # which one\n                   # of them\n  - override hydra/job_logging: none\n\n"
        "# First\na: 1   # px; what\n       # it means\nb: {c: x, d: [1, 2]}  # both\n"
        "# Second\ne:\n  f: 'a # b'  # text\n  list:\n    - {g: 1}\n    - h: 2\n      i: 3\n  j: null\n"
        "hydra:\n  run: {dir: .}\n"
    )
    page = read_page(path)
    assert (page.summary, page.examples, page.bases) == ("What it is. More of it.", ("litepose train a=1",), ("base",))
    assert [(group.name, group.default, group.meaning) for group in page.groups] == [
        ("group", "chosen", "which one of them")
    ]
    assert [(option.name, option.default, option.meaning, option.section) for option in page.options] == [
        ("a", "1", "px; what it means", "First"),
        ("b.c", "x", "both", "First"),
        ("b.d", "[1, 2]", "both", "First"),
        ("e", "", "", "Second"),
        ("e.f", "'a # b'", "text", "Second"),
        ("e.list", "", "", "Second"),
        ("e.j", "null", "", "Second"),
    ]


def test_a_file_has_the_options_of_those_it_is_based_on() -> None:
    options = {option.name: option for option in group_options("dataset", "coco_people")}
    assert options["dataset.test.images"].default == "test2017"
    assert options["dataset.root"].meaning == "folder of the data set"
    assert dict.fromkeys(options) == dict.fromkeys(option.name for option in group_options("dataset", "coco"))


def test_files_of_a_folder_of_ones_own_are_choices_too(tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    for name in ("mine", "nano"):
        (tmp_path / "space" / f"{name}.yaml").write_text(f"# The space {name}.\nname: {name}\n")
    found = choices("space", [tmp_path])
    assert found["mine"] == tmp_path / "space" / "mine.yaml"
    assert found["nano"] == CONF_FOLDER / "space" / "nano.yaml"  # as Hydra does, whose first match counts
    command = next(command for command in COMMANDS if command.name == "train")
    assert "The space mine." in help_text(command, [f"--config-dir={tmp_path}"])


@pytest.mark.parametrize("command", WITH_CONFIG, ids=lambda command: command.name)
def test_help_shows_the_groups_of_the_command_only(command: Any) -> None:
    page: Page = command_page(command.config)
    text = help_text(command)
    shown = {line.split("=")[0] for line in text.splitlines() if line and not line.startswith((" ", "usage"))}
    folders = {path.name for path in CONF_FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert shown & folders == {group.name for group in page.groups}
    for option in page.options:
        assert not option.default or f"  {option.name}={option.default}" in text
    assert "hydra" not in text
    chosen = help_text(command, ["dataset=coco"])
    assert "dataset.root=null" in chosen
