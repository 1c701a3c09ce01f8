"""Real processes: their output, awaited line by line, and what the system says of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.harness import preloaded
from tests.harness.waiting import eventually

ROOT = Path(__file__).parents[2]


def run(
    *command: str | Path, env: Mapping[str, str], cwd: Path = ROOT, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with nothing to read, whatever its status is."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def run_python(
    *command: str, env: Mapping[str, str], cwd: Path = ROOT, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run Python to its end, in an environment that has Django; see `preloaded`."""
    if preloaded.CAN_FORK:
        return preloaded.run(*command, env=env, cwd=cwd, timeout=timeout)
    return run(sys.executable, *command, env=env, cwd=cwd, timeout=timeout)


class Process:
    """A child with its output.

    Args:
        command: what follows the interpreter; with ``python=False``, the whole command.
        cwd: where it runs.
        session: give it a process group of its own, and send signals to all of that, as a
            terminal does.
        forked: start it from a process that has Django imported already; see `preloaded`. It
            reads nothing. (With LD_PRELOAD it is started anew, for a fork loads no library.)
    """

    def __init__(
        self,
        *command: str,
        env: Mapping[str, str],
        python: bool = True,
        cwd: Path = ROOT,
        session: bool = False,
        forked: bool = False,
    ) -> None:
        self._session = session
        self._lines: list[str] = []
        self._more = threading.Condition()
        self._popen: subprocess.Popen[str] | preloaded.Forked
        if forked and preloaded.CAN_FORK and "LD_PRELOAD" not in env:
            self._popen = preloaded.start(*command, env=env, cwd=cwd, session=session)
        else:
            self._popen = _start(
                *([sys.executable] if python else []), *command, env=env, cwd=cwd, session=session
            )
        self.pid = self._popen.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout
        for line in self._popen.stdout:
            with self._more:
                self._lines.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self._lines)

    def mark(self) -> int:
        """A place in the output, to wait from."""
        return len(self._lines)

    def wait_for(self, text: str, after: int = 0, timeout: float = 60) -> str:
        """The first line with ``text`` after a mark; an error with all output if none comes."""

        def found() -> str | None:
            return next((line for line in self._lines[after:] if text in line), None)

        with self._more:
            self._more.wait_for(lambda: found() or not self._reader.is_alive(), timeout)
            line = found()
        if line is None:
            raise AssertionError(f"no {text!r} in the output of {self._popen.args}:\n{self.output}")
        return line

    @property
    def alive(self) -> bool:
        """Whether it runs. Once it has ended, the system may give its number to another process."""
        return self._popen.poll() is None

    def stop(self, signal_: signal.Signals = signal.SIGTERM, timeout: float = 30) -> int:
        if self.alive:
            if self._session:
                os.killpg(self.pid, signal_)
            else:
                self._popen.send_signal(signal_)
        return self.wait(timeout)

    def wait(self, timeout: float = 60) -> int:
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            raise AssertionError(f"{self._popen.args} did not end:\n{self.output}") from None
        self._reader.join(timeout)
        if self._reader.is_alive():  # to close the pipe would wait for that thread
            left = f"{self._popen.args} has left a process behind, which holds its output"
            raise AssertionError(f"{left}:\n{self.output}")
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe:
                pipe.close()
        return code


def _start(
    *command: str, env: Mapping[str, str], cwd: Path, session: bool
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=cwd,
        start_new_session=session,
        # As a terminal starts it, also where the tests run under nohup.
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children(pid: int) -> list[int]:
    """The child processes of a process, whichever of its threads has started them."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it has ended meanwhile
            found += map(int, thread.read_text().split())
    return found


def state(pid: int) -> str:
    """The state of a process as ``ps`` shows it; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the second: it has ended since it was opened
        return ""


def thaw(pids: Sequence[int]) -> None:
    """Let stopped processes go on, the children before their supervisor.

    They have not heard yet what that is about to learn.
    """
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)


def kill_tree(pid: int) -> None:
    """Kill a worker, its children, and what their tasks have started and left in their groups.

    The worker is stopped first: it would fork a child anew for each that is killed, and that one
    would live on without it.
    """
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    eventually(lambda: state(pid) in {"T", "Z", ""}, f"process {pid} stopped")
    for victim in (*children(pid), pid):
        with suppress(ProcessLookupError):
            if os.getpgid(victim) == victim != os.getpgrp():
                os.killpg(victim, signal.SIGKILL)
            else:
                os.kill(victim, signal.SIGKILL)
