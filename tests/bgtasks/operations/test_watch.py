"""``manage.py tasks watch`` in a real terminal."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.harness.deployment import Deployment
from tests.harness.process import ROOT
from tests.harness.waiting import eventually

pty = pytest.importorskip("pty", reason="a terminal of Unix")


HOME = "\x1b[H"  # moves the cursor to the upper left corner, where each drawing begins


class Terminal:
    """The command in a terminal of its own.

    Attributes:
        text: what it has written so far.
    """

    def __init__(self, project: Deployment, *arguments: str) -> None:
        self._own, theirs = pty.openpty()
        environment = project.environment(TERM="xterm", COLUMNS="120", LINES="40")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "django", "tasks", "watch", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def wait_for(self, *texts: str) -> None:
        """Wait until one drawing has all these texts."""

        def drawn() -> bool:
            read = os.read(self._own, 65536).decode()
            assert read, f"it has ended, without {texts}:\n{self.text}"
            self.text += read
            return any(all(text in each for text in texts) for each in self.drawings)

        eventually(drawn, lambda: f"{texts} in {self.drawings}")

    @property
    def drawings(self) -> list[str]:
        """The last whole drawing, and the one after it as far as it has come."""
        return self.text.split(HOME)[-2:]

    def interrupt(self) -> int:
        self._process.send_signal(signal.SIGINT)
        eventually(self._ended, "the end of the command")
        return self._process.wait()

    def _ended(self) -> bool:
        """Whether the command has ended. What it writes is read: a terminal holds little."""
        with suppress(OSError):  # it has closed the terminal
            if select.select([self._own], [], [], 0)[0]:
                os.read(self._own, 65536)
        return self._process.poll() is not None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._own)


@contextmanager
def terminal(project: Deployment, *arguments: str) -> Iterator[Terminal]:
    made = Terminal(project, *arguments)
    try:
        yield made
    finally:
        made.close()


def test_it_shows_what_waits_runs_and_has_failed_as_it_changes(project: Deployment) -> None:
    project.run("tasks.refuse(7); tasks.progressing('seen')")
    with terminal(project, "--interval", "0.1") as screen:
        screen.wait_for("Tasks wait, and no worker runs.", "progressing", "waiting")
        project.worker("--processes", "1", "--threads", "2")
        screen.wait_for("1 worker", "10 of 20 step 10", "Refused")
        assert "Tasks wait" not in screen.drawings[-1]
        (project.folder / "seen").touch()
        screen.wait_for("succeeded")
        assert screen.interrupt() == 0


def test_it_shows_one_queue(project: Deployment) -> None:
    project.run("tasks.work(1, queue='mails'); tasks.note_creator()")
    with terminal(project, "--queue", "mails") as screen:
        screen.wait_for("queue mails", "tasks.work", "Ended")
        assert "note_creator" not in screen.text


def test_without_a_terminal_it_says_what_else_there_is(project: Deployment) -> None:
    done = project.manage("tasks", "watch")
    assert done.returncode == 1
    assert "needs a terminal" in done.stderr


def test_an_interval_is_a_number_of_seconds(project: Deployment) -> None:
    for text in ("soon", "0", "nan"):
        done = project.manage("tasks", "watch", "--interval", text)
        assert f"'{text}' is no number of seconds from 0.1 to 3600" in done.stderr
