"""Two workers on one PostgreSQL database: a real server, started for the test and stopped after it."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from search.optuna_storage import open_storage
from supernet.errors import UserError
from tests.search.test_optuna_engine import check_two_workers

USER = "postgres"
"""Debian's user of the server, which refuses to run as root."""


def binary(name: str) -> str | None:
    """A program of PostgreSQL: in the newest of Debian's folders, or on the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    found = [str(folder / name) for folder in folders if (folder / name).exists()]
    return found[-1] if found else shutil.which(name)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of a new database on a server of this test's own."""
    initdb, pg_ctl = binary("initdb"), binary("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed (pip install 'psycopg[binary]')")
    as_user: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None or subprocess.run(["id", USER], capture_output=True).returncode:
            pytest.skip(f"PostgreSQL does not run as root, and there is no user {USER} or no setpriv")
        as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
    # Not in pytest's folder, which only root may enter.
    with tempfile.TemporaryDirectory(prefix="postgresql") as name:
        if as_user:
            shutil.chown(name, USER, USER)
        yield from served(initdb, pg_ctl, as_user, Path(name))


def served(initdb: str, pg_ctl: str, as_user: list[str], folder: Path) -> Iterator[str]:
    """Start a server with its data in ``folder``, yield a URL, and stop it."""
    data, port = folder / "data", free_port()

    def run(*command: str) -> None:
        done = subprocess.run([*as_user, *command], cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    run(initdb, "-D", str(data), "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    run(pg_ctl, "-D", str(data), "-l", str(folder / "log"), "-w", "-t", "60", "-o", options, "start")
    try:
        yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
    finally:
        run(pg_ctl, "-D", str(data), "-w", "-m", "immediate", "stop")


def test_two_workers_share_a_database_and_a_killed_ones_trial_is_retried(database: str, tmp_path: Path) -> None:
    check_two_workers(database, tmp_path)


@pytest.mark.skipif(find_spec("psycopg") is None, reason="psycopg is not installed")
def test_a_server_that_is_not_there_is_one_sentence_without_the_password() -> None:
    with pytest.raises(UserError, match=r"cannot open storage postgresql://me:.*refused") as caught:
        open_storage(f"postgresql://me:secret@127.0.0.1:{free_port()}/db")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
