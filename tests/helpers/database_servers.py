"""Database servers for one test: on a free port, with their data in a new folder, stopped at the end."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

USER = "postgres"
"""Debian's user for PostgreSQL, which does not run as root."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def binary(name: str) -> str | None:
    """Return the path of a program of PostgreSQL: in the newest of Debian's folders, or on PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    paths = [str(folder / name) for folder in folders if (folder / name).exists()]
    return paths[-1] if paths else shutil.which(name)


@contextmanager
def postgresql() -> Iterator[str]:
    """Yield the URL of a new database; skip the test if PostgreSQL or its driver is not installed."""
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
    # Not in the folder of pytest, which only root may enter.
    with tempfile.TemporaryDirectory(prefix="postgresql") as name:
        folder, port = Path(name), free_port()
        if as_user:
            shutil.chown(folder, USER, USER)
        data = ["-D", str(folder / "data")]
        initdb_options = ["-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        run([*as_user, initdb, *data, *initdb_options], folder)
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        start = ["-l", str(folder / "log"), "-w", "-t", "60", "-o", options, "start"]
        run([*as_user, pg_ctl, *data, *start], folder)
        try:
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        finally:
            run([*as_user, pg_ctl, *data, "-w", "-m", "immediate", "stop"], folder)


@contextmanager
def mariadb() -> Iterator[str]:
    """Yield the URL of a new database for MySQL drivers; skip the test if MariaDB or the driver is not installed."""
    install, server = shutil.which("mariadb-install-db"), shutil.which("mariadbd", path=f"{os.defpath}:/usr/sbin")
    if install is None or server is None:
        pytest.skip("MariaDB is not installed (Debian: apt-get install mariadb-server)")
    pymysql = pytest.importorskip("pymysql", reason="PyMySQL is not installed (pip install 'pymysql[rsa]')")
    with tempfile.TemporaryDirectory(prefix="mariadb") as name:
        folder, port = Path(name), free_port()
        place = ["--no-defaults", f"--datadir={folder / 'data'}"] + ["--user=root"] * (os.geteuid() == 0)
        run([install, *place, "--auth-root-authentication-method=normal", "--skip-test-db"], folder)
        options = ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder / 'socket'}"]
        options += [f"--pid-file={folder / 'pid'}", "--skip-grant-tables", "--innodb-flush-log-at-trx-commit=0"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([server, *place, *options], stdout=log, stderr=log)
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    with pymysql.connect(host="127.0.0.1", port=port, user="root") as connection:
                        connection.cursor().execute("CREATE DATABASE studies")
                    break
                except pymysql.err.OperationalError:
                    assert process.poll() is None, (folder / "log").read_text()
                    assert time.monotonic() < end, "MariaDB refuses connections"
                    time.sleep(0.1)
            yield f"mysql://root@127.0.0.1:{port}/studies"
        finally:
            process.kill()
            process.wait()
