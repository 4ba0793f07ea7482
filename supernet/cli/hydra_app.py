"""Runs the commands that have configuration files: composes the configuration and reports errors in it."""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from supernet.cli.broken_pipe import exit_on_broken_pipe
from supernet.cli.console import explain_missing_operation, fail, show_logs
from supernet.cli.grammar import option_of
from supernet.cli.interrupts import begin_work
from supernet.cli.option_docs import choices, command_page
from supernet.cli.text_options import quoted, with_home
from supernet.errors import UserError, suggestion
from supernet.io.conf_folder import CONF_FOLDER

# How long an idle thread spins before it sleeps, in iterations of GNU OpenMP. On a virtual machine, waking threads can
# take longer than what they are woken for, but long spinning beside other busy processes makes a step several times
# slower: docs/results/cpu_training.md. torch reads this when it is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


_NUMBER = re.compile(r"[-+]?[\d._]+(e[-+]?\d+)?|true|false|inf|nan|null", re.IGNORECASE)
"""What Hydra takes as a number, a truth value or nothing, and not as the name of a file."""


def run_with_config(config_name: str, job: Callable[[dict[str, Any]], None]) -> None:
    """Call ``job`` with ``conf/<config_name>.yaml`` and the command line's overrides, composed to plain values.

    Invalid overrides and UserErrors end the process with one sentence and exit status 2; other exceptions keep their
    traceback. In a sweep, the process that was started reports the error, whichever process ran the job.
    """
    has_begun = False

    def call(config: DictConfig) -> None:
        nonlocal has_begun
        has_begun = True
        show_logs()  # here, because a sweep may run the job in another process
        try:
            plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            assert isinstance(plain, dict)
            begin_work()
            with explain_missing_operation():
                job(with_home(plain))
            return
        except OmegaConfBaseException as error:
            user_error = _override_error(error, config_name, [])
        except UserError as error:
            user_error = error
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise user_error
        fail(user_error)

    for override in sys.argv[1:]:
        group, _, value = override.partition("=")
        if value.startswith(("[", "{")) and (CONF_FOLDER / group).is_dir():
            fail(
                UserError(
                    f"{_wrong_choice(group, value)}; for values of your own, write them to "
                    f"FOLDER/{group}/NAME.yaml and add --config-dir=FOLDER {group}=NAME"
                )
            )
    # Hydra takes no null for a group, not even where it is the default.
    optional = {f"{group.name}=null" for group in command_page(config_name).groups if group.default == "null"}
    words = [word for word in sys.argv[1:] if word not in optional]
    has_own_images = "dataset=null" in optional or any(re.match("resume=(?!(null|auto)$)", word) for word in words)
    if has_own_images and not any(word.startswith("dataset=") for word in words):
        # The images of the weights or of the stopped run, whose description is not known here, but their folder may be.
        words = [f"++{word}" if word.startswith("dataset.root=") else word for word in words]
    sys.argv[1:] = quoted(words)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them and exiting with 1
    try:
        with exit_on_broken_pipe():
            hydra.main(version_base="1.3", config_path=str(CONF_FOLDER), config_name=config_name)(call)()
    except UserError as error:
        fail(error)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if has_begun and not isinstance(error, HydraException | OmegaConfBaseException):
            raise  # a bug in the job
        fail(_override_error(error, config_name, [argument for argument in sys.argv[1:] if "=" in argument]))


def compose_config(config_name: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose ``conf/<config_name>.yaml`` (or nothing) with overrides in Hydra's ``key=value`` form, as plain values.

    Raises:
        UserError: There is no such configuration, or an override is invalid.
    """
    overrides = quoted(overrides)
    try:
        with hydra.initialize_config_dir(str(CONF_FOLDER), version_base="1.3"):
            config = hydra.compose(config_name, overrides=overrides)
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _override_error(error, config_name, overrides) from error
    assert isinstance(plain, dict)
    return with_home(plain)


def compose_values(
    config_name: str | None, groups: Mapping[str, str | Mapping[str, Any] | None], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Compose ``conf/<config_name>.yaml`` with Python values instead of text, as plain values.

    Args:
        config_name: Name of the configuration; None for one that holds the groups alone.
        groups: For groups such as ``space``, the name of one of their files, or values in its place.
        values: Options; mappings change single entries of a group. They are not checked here.

    Raises:
        UserError: There is no such file, or a value is not plain.
    """
    overrides, whole = [], {}
    for group, choice in groups.items():
        if isinstance(choice, Mapping):
            whole[group] = choice
        elif choice is not None:
            names = sorted(entry.stem for entry in (CONF_FOLDER / group).iterdir())
            if choice not in names:
                raise UserError(f"{group} must be one of {names}, got {choice!r}{suggestion(str(choice), names)}")
            overrides.append(f"{'+' * (config_name is None)}{group}={choice}")
    try:
        with hydra.initialize_config_dir(str(CONF_FOLDER), version_base="1.3"):
            config = hydra.compose(config_name, overrides=overrides)
        OmegaConf.set_struct(config, False)
        for group, choice in whole.items():
            config[group] = choice
        plain = OmegaConf.to_container(OmegaConf.merge(config, values), resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(" ".join(str(error).partition("\n    full_key:")[0].split())) from error
    assert isinstance(plain, dict)
    return with_home(plain)


def dataset_config(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose ``conf/dataset/<name>.yaml`` with overrides such as ``dataset.root=FOLDER``, as plain values.

    Raises:
        UserError: There is no such data set, or an override is invalid or not one of the data set.
    """
    for override in overrides:
        if not override.startswith("dataset."):
            raise UserError(f"{override!r} is not an option of the data set; write dataset.KEY=VALUE")
    dataset: dict[str, Any] = compose_config(None, [f"+dataset={name}", *overrides])["dataset"]
    return dataset


def _override_error(error: Exception, config_name: str | None, overrides: Sequence[str]) -> UserError:
    """Return an error of Hydra or OmegaConf as one line, without its internal details."""
    message = str(error).partition("Config search path:")[0].partition("\n    full_key:")[0]
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        example = f"{key}=['a name','another']" if value[:1] in ("[", "{") else f"{key}='{value}'"
        reason = message.partition("\n")[0]
        described = "" if reason.startswith(("Lexer", "Error parsing")) else f": {reason}"
        return UserError(
            f"{error.override} cannot be read{described}; close every bracket, and put text with characters other than "
            f'ASCII letters, digits and _-./ in quotes inside those of the shell: "{example}"'
        )
    if unknown := re.match(r"Could not override '([^']+)'", message):
        key = unknown[1]  # Hydra suggests adding the key, which this project would refuse
        others = [override for override in overrides if option_of(override) != key]
        message = f"there is no option {key}"
        message += _other_choices(key, config_name, others) or suggestion(key, _options(config_name, others))
    elif missing := re.search(r"Could not find '(.+)/(.+)'\s+Available options in '.+':((?:\n.*)+)", message):
        group, choice, names = missing[1], missing[2], missing[3].split()
        message = f"there is no {group}={choice}{suggestion(choice, names)}; choose among {', '.join(names)}"
    elif merged := re.match(r"Error merging override (.+)", message):
        message = f"cannot set {merged[1]}: {str(error.__cause__).partition(chr(10))[0]}"
    elif word := re.match(r"invalid literal for int\(\) with base 10: '(.+)'", message):
        key = next((name for name in map(option_of, overrides) if f".{word[1]}" in name), word[1])
        entries = key.partition(f".{word[1]}")[0]
        message = f"there is no option {key}; {entries} is a list, whose entries are {entries}.0 and so on"
    elif message.startswith("Config group override must be a string"):
        for override in overrides:
            if (CONF_FOLDER / option_of(override)).is_dir() and _NUMBER.fullmatch(override.partition("=")[2]):
                message = _wrong_choice(option_of(override), override.partition("=")[2])
    return UserError(f"{' '.join(message.split())}; --help lists the options")


def _wrong_choice(group: str, value: str) -> str:
    """Return the message about a value that is no name of a file of ``group``."""
    names = sorted(entry.stem for entry in (CONF_FOLDER / group).iterdir())
    return f"{group} must be one of {names}, got {value}"


def _other_choices(key: str, config_name: str | None, overrides: Sequence[str]) -> str:
    """Return which choices of the group of ``key``, such as dataset of dataset.root, have it; empty if none has."""
    group = key.partition(".")[0]
    if config_name is None or group not in {of_command.name for of_command in command_page(config_name).groups}:
        return ""
    names = [name for name in sorted(choices(group)) if key in _options(None, [f"+{group}={name}"])]
    if not names:
        return ""
    chosen = next((override.partition("=")[2] for override in overrides if option_of(override) == group), None)
    having = f"{group}={' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))}"
    return f" without {having}" if chosen is None else f" with {group}={chosen}, only with {having}"


def _options(config_name: str | None, overrides: Sequence[str]) -> list[str]:
    """Return the names of all options, nested ones with dots; empty if ``overrides`` are invalid, too."""
    try:
        with hydra.initialize_config_dir(str(CONF_FOLDER), version_base="1.3"):
            config = hydra.compose(config_name, overrides=[*overrides])
    except (HydraException, OmegaConfBaseException):
        return []
    names: list[str] = []

    def collect(prefix: str, options: Any) -> None:
        for key, value in options.items():
            names.append(f"{prefix}{key}")
            if isinstance(value, dict):
                collect(f"{prefix}{key}.", value)

    collect("", OmegaConf.to_container(config, resolve=False))
    return names


def command_line_overrides() -> list[str]:
    """Return the overrides on the command line, in Hydra's ``key=value`` form."""
    return list(HydraConfig.get().overrides.task)
