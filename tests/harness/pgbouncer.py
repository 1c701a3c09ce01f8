"""PgBouncer in front of the tests' PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import ephemeral_port_reserve
import psycopg

from tests.harness.needs import missing
from tests.harness.waiting import eventually

CONFIGURATION = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
logfile = {folder}/pgbouncer.log
pidfile = {folder}/pgbouncer.pid
server_login_retry = 1
ignore_startup_parameters = extra_float_digits,options
"""


class PgBouncer:
    """A process of PgBouncer's.

    Attributes:
        port: the port of this machine on which it listens.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port

    def through(self, url: str) -> str:
        """The URL that leads to a database through it."""
        parts = urlsplit(url)
        return parts._replace(
            netloc=f"{parts.username or 'postgres'}@127.0.0.1:{self.port}"
        ).geturl()

    def freeze(self) -> None:
        """Keep connections open, take new ones, and answer nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def pgbouncer(url: str, mode: str = "transaction", size: int = 4) -> Iterator[PgBouncer]:
    """Run PgBouncer.

    Args:
        url: of any database of the server behind it.
        mode: its ``pool_mode``.
        size: how many connections it opens to each database.
    """
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        missing("PgBouncer (on Debian: apt-get install pgbouncer)")
    parts = urlsplit(url)
    port = ephemeral_port_reserve.reserve()
    # It refuses to be root, and another user cannot enter the folders of the tests.
    other = ["-u", "nobody"] if os.getuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(
                host=parts.hostname, port=parts.port or 5432, user=parts.username or "postgres",
                own=port, mode=mode, size=size, folder=folder,
            )
        )  # fmt: skip
        process = subprocess.Popen([program, "--quiet", *other, configuration])
        bouncer = PgBouncer(process, port)

        def said() -> str:
            log = folder / "pgbouncer.log"
            return f"PgBouncer ({process.poll()}): {log.read_text() if log.exists() else 'silent'}"

        try:
            # If somebody else has taken the port meanwhile, it has ended.
            eventually(lambda: process.poll() is not None or _answers(bouncer.through(url)), said)
            assert process.poll() is None, said()
            yield bouncer
        finally:
            bouncer.thaw()
            process.terminate()
            process.wait()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=3).close()
    except psycopg.OperationalError:
        return False
    return True
