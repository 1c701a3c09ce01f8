"""A PostgreSQL of a test's own, which may be stopped, restarted and frozen."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import ephemeral_port_reserve
import psycopg

from tests.harness.databases import Server
from tests.harness.needs import missing
from tests.harness.process import children
from tests.harness.waiting import eventually

# It need not survive a loss of power. It must survive a crash, so `synchronous_commit` stays on.
FAST = {"fsync": "off", "full_page_writes": "off"}
NAME = "tests"


def _programs() -> Path:
    """The folder of the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: path.parts)
    if found:
        return found[-1].parent
    if program := shutil.which("postgres"):
        return Path(program).resolve().parent
    missing("PostgreSQL's server programs (on Debian: apt-get install postgresql)")
    raise AssertionError


class PrivateDatabase:
    """A database of a `PrivateServer`: what `tests.harness.databases.Database` is for others.

    Attributes:
        url: for the project under test.
    """

    on_postgresql = True
    name = NAME

    def __init__(self, server: PrivateServer) -> None:
        self.url = server.url
        self._server = Server(server.socket_url)

    def query(self, sql: str) -> list[dict[str, Any]]:
        return self._server.execute(sql)

    def release(self) -> None:
        """Its server goes with it."""
        self._server.close()


class PrivateServer:
    """A server with one empty database.

    Args:
        folder: for its files; whoever runs the server must be able to write there.
        address: the address on which it listens, besides its socket in the folder.
        prefix: a command that runs it elsewhere, such as ``ip netns exec``.

    Attributes:
        url: of its database, by its address.
        local_url, socket_url: of its database, by its socket: for Django, and for psycopg.
    """

    def __init__(
        self, folder: Path, address: str = "127.0.0.1", prefix: Sequence[str] = ()
    ) -> None:
        self._folder, self._prefix = folder, list(prefix)
        self.address = address
        self.port = ephemeral_port_reserve.reserve()
        self._programs = _programs()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = self.at(self.port)
        self.local_url = f"postgres://postgres@:{self.port}/{folder}/{NAME}"
        self.socket_url = f"postgres://postgres@{quote(str(folder), safe='')}:{self.port}/{NAME}"

    def at(self, port: int) -> str:
        """The URL of its database by another port of the same address."""
        return f"postgres://postgres@{self.address}:{port}/{NAME}"

    def _run(self, program: str, *arguments: object) -> list[str]:
        """A command of a program that refuses to be root."""
        other = []
        if os.getuid() == 0:
            other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        return [*self._prefix, *other, str(self._programs / program), *map(str, arguments)]

    def make(self) -> None:
        """Make its files, start it, and make the database."""
        self._finish(
            "initdb", "--no-sync", "--auth=trust", "--username=postgres", self._folder / "data"
        )
        with (self._folder / "data" / "pg_hba.conf").open("a") as file:
            file.write("host all all 0.0.0.0/0 trust\n")
        self.start()
        with psycopg.connect(self._of("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {NAME}")

    def follow(self, other: PrivateServer, behind: str) -> None:
        """Make it a replica of another one, behind by so much ("1h"), and start it.

        What the other one has already, it has too.
        """
        self._finish(
            "pg_basebackup", "--no-sync", "--checkpoint=fast", "--write-recovery-conf",
            "--username=postgres", f"--host={other._folder}", f"--port={other.port}",
            f"--pgdata={self._folder / 'data'}",
        )  # fmt: skip
        self.start(recovery_min_apply_delay=behind)

    def _finish(self, program: str, *arguments: object) -> None:
        subprocess.run(self._run(program, *arguments), check=True, stdout=subprocess.DEVNULL)

    def _of(self, name: str) -> str:
        return self.socket_url.rpartition("/")[0] + f"/{name}"

    def start(self, **settings: object) -> None:
        """Start it, and wait until it answers.

        Args:
            settings: PostgreSQL's, such as ``max_connections``.
        """
        given = {**FAST, "listen_addresses": self.address, "port": self.port, **settings}
        options = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._run("postgres", "-D", self._folder / "data", "-k", self._folder, *options),
                stdout=log, stderr=log,
            )  # fmt: skip
        eventually(self._answers, "PostgreSQL answers")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._of("postgres"), connect_timeout=3).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it, and wait until it has ended.

        Args:
            how: SIGINT breaks the connections ("fast"); SIGQUIT ends without writing anything, as
                after a crash ("immediate").
        """
        if self._process:
            self.thaw()
            os.kill(self._process.pid, how)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Have it answer nothing: connections stay open, and new ones are taken by the system."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        for pid in (self._process.pid, *children(self._process.pid)):
            with suppress(ProcessLookupError):  # a connection has ended meanwhile
                os.kill(pid, number)


@contextmanager
def private_postgresql(
    address: str = "127.0.0.1",
    prefix: Sequence[str] = (),
    *,
    primary: PrivateServer | None = None,
    behind: str = "0",
) -> Iterator[PrivateServer]:
    """Run a server; see `PrivateServer`. Its database is empty.

    Args:
        primary: make it a replica of that one, see `PrivateServer.follow`.
    """
    # Whoever runs it cannot enter the folders of the tests.
    with tempfile.TemporaryDirectory(prefix="postgresql-", ignore_cleanup_errors=True) as name:
        if os.getuid() == 0:
            try:
                user = pwd.getpwnam("postgres")
            except KeyError:
                missing("the system's user postgres, for PostgreSQL refuses to run as root")
            os.chown(name, user.pw_uid, user.pw_gid)
        server = PrivateServer(Path(name), address, prefix)
        try:
            if primary:
                server.follow(primary, behind)
            else:
                server.make()
            yield server
        finally:
            server.stop(signal.SIGQUIT)
