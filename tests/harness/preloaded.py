"""Python processes that start quickly: forked from one that has imported Django already.

Most of the time of a test with real processes is that in which each of them imports Django and sets
its project up. Here they are forked, by the fork server of `multiprocessing`, from a process that
has imported Django before, or, where `warm.suits`, from one that has also set the project up. They
are processes as any other, each with an environment, settings and signal handlers of its own.
"""

from __future__ import annotations

import atexit
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

from tests.harness import warm

CAN_FORK = hasattr(os, "fork")
# What a project imports that needs no settings.
PRELOADED = [
    "asyncio",
    "cronsim",
    "django.contrib.auth.hashers",
    "django.contrib.auth.password_validation",
    "django.contrib.contenttypes.management",
    "django.core.mail",
    "django.core.management",
    "django.core.management.commands.check",
    "django.core.management.commands.migrate",
    "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base",
    "django.db.migrations.executor",
    "django.db.models",
    "django.forms",
    "django.template.defaultfilters",
    "django.test.signals",
    "django.urls",
    "django.views.generic",
    "environ",
]
_context = multiprocessing.get_context("forkserver") if CAN_FORK else None
if _context:
    _context.set_forkserver_preload(PRELOADED)
    # `multiprocessing` has one fork server for all, and this is a second one. A function of the
    # module asks one of them for a process.
    _warm_server = forkserver.ForkServer()
    _warm_server.set_forkserver_preload([*PRELOADED, "tests.harness.set_up"])
    _connect = {
        False: forkserver.connect_to_new_process,
        True: _warm_server.connect_to_new_process,
    }
_one_at_a_time = threading.Lock()


class Forked:
    """A Python process, with as much of the interface of `subprocess.Popen` as the tests use.

    Args:
        command: what would follow the interpreter: a file, ``-m`` and a module, or ``-c`` and code,
            with its arguments.
        stdout: a file descriptor.
        stderr: another one, or the same.
        session: give it a session of its own.
    """

    stdin = None

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        stdout: int,
        stderr: int,
        session: bool = False,
    ) -> None:
        assert _context
        self.args = ["python", *command]
        self.stdout: io.TextIOWrapper | None = None
        # The fork server hands over connections, which are wrapped around a descriptor for that.
        out, err = Connection(os.dup(stdout)), Connection(os.dup(stderr))
        is_warm = warm.suits(command, env)
        self._process = _context.Process(
            target=_main, args=[list(command), dict(env), str(cwd), out, err, session, is_warm]
        )
        with _one_at_a_time, patch.object(forkserver, "connect_to_new_process", _connect[is_warm]):
            self._process.start()
        out.close()
        err.close()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def send_signal(self, signal_: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal_)

    def kill(self) -> None:
        self._process.kill()


def start(*command: str, env: Mapping[str, str], cwd: Path, session: bool) -> Forked:
    """Start Python, with all its output on ``stdout``. See `Forked`."""
    reader, writer = os.pipe()
    process = Forked(command, env, cwd, writer, writer, session)
    os.close(writer)
    process.stdout = os.fdopen(reader, encoding="utf-8")
    return process


def run(
    *command: str, env: Mapping[str, str], cwd: Path, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run Python to its end, whatever its status is. See `Forked`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Forked(command, env, cwd, out.fileno(), err.fileno())
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(process.args, status, *texts)


def _main(
    command: list[str],
    env: dict[str, str],
    cwd: str,
    out: Connection,
    err: Connection,
    session: bool,
    is_warm: bool,
) -> NoReturn:
    """What the forked process does: become the Python that was asked for, run, and exit."""
    atexit._clear()  # what is registered there belongs to the fork server
    if session:
        os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    _redirect(out, err)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None
    installed = (sys.prefix, sys.base_prefix, sys.exec_prefix)
    path = [entry for entry in sys.path if entry.startswith(installed)]
    sys.path[:] = ["", *filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *path]
    if is_warm:
        warm.renew()
    status = _run(command)
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does at its end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _redirect(out: Connection, err: Connection) -> None:
    """Make the connections this process's output, unbuffered."""
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    for number, connection in ((1, out), (2, err)):
        os.dup2(connection.fileno(), number)
        connection.close()
    sys.stdout = sys.__stdout__ = _stream(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2)  # type: ignore[misc]


def _stream(number: int) -> io.TextIOWrapper:
    file = open(number, "wb", 0, closefd=False)  # noqa: SIM115  as long as the process lives
    errors = "strict" if number == 1 else "backslashreplace"
    return io.TextIOWrapper(file, "utf-8", errors, write_through=True)


def _run(command: list[str]) -> int:
    """Run it as the interpreter would; returns the status to exit with."""
    kind, *rest = command
    try:
        if kind == "-c":
            sys.argv = ["-c", *rest[1:]]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), main.__dict__)
        elif kind == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as ending:
        if isinstance(ending.code, str):
            sys.stderr.write(f"{ending.code}\n")
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0
