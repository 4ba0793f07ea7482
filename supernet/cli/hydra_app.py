"""What all entry points share: configuration, error reporting, run folders, progress bars."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from supernet.cli.broken_pipe import exit_on_broken_pipe
from supernet.cli.console import fail
from supernet.errors import UserError

# How long a thread spins before it sleeps, as GNU OpenMP counts. Waking one costs up to a fifth of a training step; but
# spinning for long beside other busy processes makes a step take several times as long. Before torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "200")


def run_with_config(config_name: str, job: Callable[[dict[str, Any]], None]) -> None:
    """Compose ``conf/<config_name>.yaml`` with the command line's overrides and hand it to ``job`` as plain values.

    Bad overrides and UserErrors end in one sentence and exit status 2; anything else keeps its traceback. Of a sweep,
    the process that was started tells it, whichever process ran the job.
    """

    def call(config: DictConfig) -> None:
        try:
            plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            assert isinstance(plain, dict)
            job({str(key): value for key, value in plain.items()})
            return
        except OmegaConfBaseException as error:
            mistake = _bad_override(error, config_name, [])
        except UserError as error:
            mistake = error
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise mistake
        fail(mistake)

    for override in sys.argv[1:]:
        group, _, value = override.partition("=")
        if value.startswith(("[", "{")) and (folder := resources.files("conf") / group).is_dir():
            names = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())
            fail(
                UserError(
                    f"{group} is given as {value}; name one of {names}, or the file of your own group, "
                    f"--config-dir=FOLDER {group}=NAME for FOLDER/{group}/NAME.yaml"
                )
            )
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them and exiting with 1
    try:
        with exit_on_broken_pipe():
            hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(call)()
    except UserError as error:
        fail(error)
    except (HydraException, OmegaConfBaseException) as error:
        fail(_bad_override(error, config_name, [each for each in sys.argv[1:] if "=" in each]))


def composed(config_name: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose ``conf/<config_name>.yaml`` (or nothing) with overrides in Hydra's ``key=value`` form, as plain values.

    Raises:
        UserError: There is no such configuration, or an override does not fit it.
    """
    try:
        with hydra.initialize_config_module("conf", version_base="1.3"):
            config = hydra.compose(config_name, overrides=[*overrides])
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _bad_override(error, config_name, overrides) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def dataset_config(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose ``conf/dataset/<name>.yaml`` with overrides such as ``dataset.root=FOLDER``, as plain values.

    Raises:
        UserError: There is no such data set, or an override does not fit it or is of something else.
    """
    for override in overrides:
        if not override.startswith("dataset."):
            raise UserError(f"{override!r} is no option of the data set; write dataset.KEY=VALUE")
    found: dict[str, Any] = composed(None, [f"+dataset={name}", *overrides])["dataset"]
    return found


def _bad_override(error: Exception, config_name: str | None, overrides: Sequence[str]) -> UserError:
    """Return Hydra's or OmegaConf's error without the lines that speak of their insides, in one line."""
    told = str(error).partition("Config search path:")[0].partition("\n    full_key:")[0]
    if unknown := re.match(r"Could not override '([^']+)'", told):
        key = unknown[1]  # Hydra would advise to add it, which helps nobody
        others = [each for each in overrides if each.lstrip("+~").partition("=")[0] != key]
        near = difflib.get_close_matches(key, _options(config_name, others), n=1)
        told = f"there is no option {key}" + (f", did you mean {near[0]}?" if near else "")
    return UserError(f"{' '.join(told.split())}; --help lists the options")


def _options(config_name: str | None, overrides: Sequence[str]) -> list[str]:
    """Return the names of all options, nested ones with dots; none where the other overrides are wrong, too."""
    try:
        with hydra.initialize_config_module("conf", version_base="1.3"):
            config = hydra.compose(config_name, overrides=[*overrides])
    except (HydraException, OmegaConfBaseException):
        return []
    found: list[str] = []

    def collect(place: str, value: Any) -> None:
        for key, inner in value.items():
            found.append(f"{place}{key}")
            if isinstance(inner, dict):
                collect(f"{place}{key}.", inner)

    collect("", OmegaConf.to_container(config, resolve=False))
    return found


def command_line_overrides() -> list[str]:
    """Return what the command line changed, in Hydra's ``key=value`` form."""
    return list(HydraConfig.get().overrides.task)
