"""Environments of their own for converters whose requirements do not fit into this one.

An environment is made on first use, in the folder for caches, and then kept. It holds the converter at pinned versions
and sees the packages of this environment, torch above all, which it would otherwise hold a second time. Therefore
packages are installed without their own requirements, by uv where it is installed and by pip elsewhere.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from subnet_export.deployment.formats import Format, require
from supernet.errors import UserError
from supernet.io import files
from supernet.io.cache_folder import cache_folder
from supernet.io.new_folder import new_folder

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Environment:
    """Packages that a converter needs.

    Attributes:
        name: Name in messages, and of its folder.
        requirements: Packages with exact versions: everything that the converter imports and this project does not
            bring.
        megabytes: Size on disk, to announce it.
    """

    name: str
    requirements: tuple[str, ...]
    megabytes: int


LITERT_INT8 = Environment("litert_int8", ("ai-edge-quantizer==0.10.0", "immutabledict==4.2.1"), 30)
COREML = Environment(
    "coreml", ("coremltools==9.0", "attrs==26.1.0", "cattrs==26.2.1", "pyaml==26.7.0", "tqdm==4.70.1"), 54
)
ENVIRONMENTS = {environment.name: environment for environment in (LITERT_INT8, COREML)}
"""All environments, by name."""


def require_converter(chosen: Format, purpose: str) -> None:
    """Check that all that writes ``chosen`` is there; an environment of its own is made.

    Raises:
        UserError: A package is not installed, or the environment cannot be made; ``purpose`` needs it.
    """
    require(chosen.packages, chosen.extra, purpose)
    if chosen.environment:
        interpreter(ENVIRONMENTS[chosen.environment])


def is_made(environment: Environment) -> bool:
    """Whether the environment exists already."""
    return _interpreter(_folder(environment)).exists()


def interpreter(environment: Environment) -> Path:
    """Return the Python of an environment, which is made if it does not exist.

    Raises:
        UserError: It cannot be made: no network, no space. Nothing is kept then.
    """
    folder = _folder(environment)
    if not is_made(environment):
        LOGGER.info(
            f"making an environment for {environment.name} in {folder}: about {environment.megabytes} MB, only once"
        )
        try:
            with new_folder(folder) as unfinished:
                _make(environment, unfinished)
        except UserError:
            if not is_made(environment):  # else another process has made it in the meantime
                raise
    return _interpreter(folder)


def _folder(environment: Environment) -> Path:
    """Return the folder of an environment: another one for other packages, another Python or another parent."""
    parts = [*environment.requirements, sys.version, *_parents()]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    return _environments_folder() / f"{environment.name}-{digest}"


def _environments_folder() -> Path:
    return cache_folder() / "environments"


def _parents() -> list[str]:
    """Return the folders of this environment's packages."""
    names = ("site-packages", "dist-packages")
    return [os.path.abspath(place) for place in sys.path if place and Path(place).name in names]


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _make(environment: Environment, folder: Path) -> None:
    uv = shutil.which("uv")
    python = str(_interpreter(folder))
    if uv:
        _run(environment, [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)])
        install = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        _run(environment, [sys.executable, "-m", "venv", str(folder)])
        install = [python, "-I", "-m", "pip", "install", "--quiet", "--retries", "1", "--disable-pip-version-check"]
    if environment.requirements:
        _run(environment, [*install, "--no-deps", *environment.requirements])
    base = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", base))
    # A path in a file of this kind comes after the environment's own packages.
    files.write_text(packages / "of_the_calling_environment.pth", "".join(f"{place}\n" for place in _parents()))


def _run(environment: Environment, command: Sequence[str]) -> None:
    """Run a step of making an environment.

    Raises:
        UserError: It fails.
    """
    result = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if result.returncode:
        raise UserError(
            f"the environment for {environment.name} cannot be made ({last_error(result.stderr or result.stdout)}); "
            "it needs a connection to the package index once, and free space in " + str(_environments_folder())
        )


def last_error(output: str) -> str:
    """Return the last line of a program's messages that says anything; of several, that with an error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no message"])[-1][:300]
