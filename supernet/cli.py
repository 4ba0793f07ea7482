"""What all entry points share: configuration, error reporting, run folders, progress bars."""

import difflib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from supernet import files, measurement
from supernet.closed_output import quiet_end
from supernet.errors import UserError

CONSOLE = Console(markup=False, emoji=False)
"""Where people read. Names of files, spaces and pictures stand in what it prints, so that nothing of it is markup."""
SAME_REQUEST_SECONDS = 2.0
"""SIGTERM comes twice where two ask for one stop: SLURM signals every process of a job, and ``torchrun`` its own."""


# How long a thread spins before it sleeps, as GNU OpenMP counts. Waking one costs up to a fifth of a training step; but
# spinning for long beside other busy processes makes a step take several times as long. Before torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "200")


def fail(error: UserError) -> NoReturn:
    """Print a user's mistake as one sentence on standard error and exit with status 2."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)


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
        with quiet_end():
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


def guarded(job: Callable[[], None]) -> None:
    """Run an entry point without configuration files; UserErrors end in one sentence and exit status 2."""
    try:
        with quiet_end():
            job()
    except UserError as error:
        fail(error)


def create_run(runs: str | Path, command: str, name: str | None = None) -> Path:
    """Create ``runs/<command>/<name or time>``; of several runs in one second all but the first get a number.

    Raises:
        UserError: The folder exists already (a run never overwrites another) or cannot be made or written, or ``name``
            is not that of a folder.
    """
    if name is not None and (Path(name).name != name or name.startswith(".") or name == "latest"):
        raise UserError(f"name is {name!r}; it must be a plain folder name, not hidden and not 'latest'")
    first = Path(runs) / command / (name or f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    folder, number = first, 1
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if name is not None or not folder.is_dir():
                raise UserError(f"the run folder {folder} exists already; choose another name or remove it") from None
            number += 1
            folder = first.with_name(f"{first.name}_{number}")
        except OSError as error:
            raise UserError(f"cannot create the run folder {folder}: {error.strerror}; choose another place") from error
    return folder


def discard_empty(folder: Path) -> None:
    """Remove the folder of a run that ended with nothing to show; one that holds anything stays."""
    with suppress(OSError):
        folder.rmdir()


def point_latest(folder: Path) -> None:
    """Let ``latest`` beside ``folder`` point to it, replacing the link in one step; for a run with something to show.

    What killed runs left half-written beside it is removed.

    Raises:
        UserError: Something else than a link is in its place, or there can be no links.
    """
    files.sweep(folder.parent)
    temporary, link = folder.parent / f".latest.tmp{os.getpid()}", folder.parent / "latest"
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name)
        os.replace(temporary, link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"cannot let {link} point to {folder}: {error.strerror}; remove what is in its place"
        ) from error


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``: the run's figures plus the versions they were measured with."""
    files.write_json(folder / "summary.json", summary | {"versions": measurement.versions()})


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C or SIGTERM has come, so that work can end at a clean point.

    A second signal ends the process at once, unless it is a SIGTERM within ``SAME_REQUEST_SECONDS`` of the first.
    """
    asked_at: float | None = None
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: object) -> None:
        nonlocal asked_at
        now = time.monotonic()
        if asked_at is None:
            asked_at = now
        elif number != signal.SIGTERM or now - asked_at > SAME_REQUEST_SECONDS:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, request)
    try:
        yield lambda: asked_at is not None
    finally:
        restore()


def progress_bar(console: Console = CONSOLE) -> Progress:
    """Return a progress bar with counts and times; tasks may show a ``note`` field."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )


def command_line_overrides() -> list[str]:
    """Return what the command line changed, in Hydra's ``key=value`` form."""
    return list(HydraConfig.get().overrides.task)
