"""A PostgreSQL server of this machine's packages, in a folder of its own, on loopback."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.kit.platform import IS_WINDOWS
from tests.kit.serving import PATIENCE

USER = "lockgate"
PASSWORD = "a-secret:of@this/test"
_AS_ROOT = ("postgres", "nobody")
"""Who runs the server where the tests are root's, which PostgreSQL refuses."""
_GUARD = '"$@" & read -r signal; kill -"${signal:-INT}" $!; wait $!'
"""A shell that sends the server the signal that it is told, or ends it when nobody can tell it any
more because the tests have been killed."""
_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "listen_addresses": "127.0.0.1",
    "autovacuum": "off",
    "max_wal_size": "256MB",
    "bgwriter_lru_maxpages": "0",
}


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`: Debian's newest, or that of the search path. None on
    Windows, where nothing here runs."""
    if IS_WINDOWS:
        return None
    of_debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3])
    )
    found = str(of_debian[-1]) if of_debian else shutil.which("initdb")
    return None if found is None else Path(found).parent


class PostgresServer:
    """It can be stopped, ended as by an accident, and started again on the same port."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        self._numbers = count()
        self._guard: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, schema: str = "public", *, port: int | None = None) -> str:
        """That of a schema of its own, which is made by `new_schema`."""
        password = PASSWORD.replace(":", "%3A").replace("@", "%40").replace("/", "%2F")
        place = f"{USER}:{password}@127.0.0.1:{port or self.port}"
        return f"postgresql://{place}/postgres?options=-csearch_path%3D{schema}"

    def new_schema(self) -> str:
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE SCHEMA {name}")
        return name

    def execute(self, sql: str) -> list[Any]:
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def end_connections(self) -> None:
        """Those of gateways, as an administrator ends them."""
        self.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'lockgate'"
        )

    @contextmanager
    def halted_connection(self) -> Iterator[None]:
        """That of the only gateway hangs meanwhile."""
        ((number,),) = self.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'lockgate'"
        )
        subprocess.run(["kill", "-STOP", str(number)], check=True)
        try:
            yield
        finally:
            subprocess.run(["kill", "-CONT", str(number)], check=True)

    def make(self) -> None:
        self._give_away(self._folder)
        secret = self._folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        self._give_away(secret)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "-U", USER, f"--pwfile={secret}", *options).check_returncode()

    def start(self) -> None:
        options = {**_OPTIONS, "port": self.port, "unix_socket_directories": self._folder}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), *settings]
        with open(self._folder / "log", "ab") as log:
            self._guard = subprocess.Popen(
                ["sh", "-c", _GUARD, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **_identity(),
            )
        self._wait_until_it_answers()

    def stop(self, signal: str = "INT") -> None:
        """Ends it and its connections at once; with QUIT as after an accident."""
        if self._guard is not None:
            self._guard.communicate(f"{signal}\n".encode(), timeout=PATIENCE)
            self._guard = None

    def _wait_until_it_answers(self) -> None:
        import psycopg

        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self._folder / "log").read_text("utf-8")
                time.sleep(0.02)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        return subprocess.run(command, cwd=self._folder, capture_output=True, **_identity())

    @staticmethod
    def _give_away(path: Path) -> None:
        if identity := _identity():
            shutil.chown(path, identity["user"], identity["group"])


def _identity() -> dict[str, Any]:
    """Of another user, if this one is root."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return {}
    import grp
    import pwd

    known = {user.pw_name: user for user in pwd.getpwall()}
    name = next(name for name in _AS_ROOT if name in known)
    group = grp.getgrgid(known[name].pw_gid).gr_name
    return {"user": name, "group": group, "extra_groups": []}


@contextmanager
def postgres_server(programs: Path) -> Iterator[PostgresServer]:
    """Nothing is left of it after the block."""
    folder = Path(tempfile.mkdtemp(prefix="lockgate-postgres-", dir="/tmp"))
    server = PostgresServer(folder, programs)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
