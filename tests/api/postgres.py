"""A PostgreSQL server of the test's own, where one is installed."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

_USER = "postgres"
_INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


class Postgres:
    """A cluster on a port of loopback.

    Args:
        directory: an empty one that the user `postgres` can reach: pytest's own are root's alone.
    """

    def __init__(self, directory: Path) -> None:
        self._bin = _directory_of_programs()
        self._data = directory / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        if os.geteuid() == 0:  # it refuses to run as root
            user = pwd.getpwnam(_USER)
            os.chown(directory, user.pw_uid, user.pw_gid)
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", _USER, "-E", "UTF8")
        self._options = f"-p {self._port} -k {directory} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.start()

    def url(self, name: str) -> str:
        """A new database on it."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", _USER, name)
        return f"postgresql+psycopg://{_USER}@127.0.0.1:{self._port}/{name}"

    def copy(self, name: str, other: str) -> None:
        """Put what a database has into an empty one, by way of a file."""
        place = ["-h", "127.0.0.1", "-p", str(self._port), "-U", _USER]
        file = str(self._data.parent / f"{name}.dump")
        self._run("pg_dump", *place, "--format=custom", f"--file={file}", name)
        self._run("pg_restore", *place, "--no-owner", f"--dbname={other}", file)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = str(self._data.parent / "log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", log, "-o", self._options, "start")

    def stop(self) -> None:
        """Cut all connections and stop it."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        as_user = ["setpriv", "--reuid", _USER, "--regid", _USER, "--clear-groups"]
        prefix = as_user if os.geteuid() == 0 else []
        # the server keeps the pipes of whoever starts it: it is given none
        done = subprocess.run(
            [*prefix, str(self._bin / program), *arguments], cwd="/", check=False, timeout=120,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, program


def _directory_of_programs() -> Path:
    """Where its programs are; skips the test where there are none."""
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed")
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(_USER)
        except KeyError:
            pytest.skip("it does not run as root, and there is no user postgres")
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    if not _INSTALLED:
        pytest.skip("PostgreSQL is not installed")
    return _INSTALLED[0]
