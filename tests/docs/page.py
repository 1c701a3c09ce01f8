"""Runs the snippets of one page, one after the other, as a reader would."""

from __future__ import annotations

import ast
import inspect
import re
import signal
import threading
import time
import unittest
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from background_task.models import Task
from django.core import mail
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from bgtasks.supervisor.in_process import InProcess
from bgtasks.tasks import registry
from bgtasks.worker.options import Options
from tests.docs import formats, python, settings_files, shop
from tests.docs.snippets import Snippet

# A block that asks for a result waits for a worker. A manager's `get` asks for a row.
ASKS = re.compile(r"(?<!objects)\.a?get\(")
# Seconds that a block may take, and what waits when a block with a worker has ended.
LONGEST, PATIENCE = 60, 20

Fixture = Callable[[str], Any]


class Page:
    """A page as it is read: its Python blocks share names, rows, mails and settings.

    A context manager; when it is left, all of that is gone.

    Args:
        snippets: the page's, in their order.
    """

    def __init__(self, snippets: Sequence[Snippet]) -> None:
        self._snippets = snippets
        self._ran: dict[Snippet, Exception | None] = {}  # what it raised
        self._settings: dict[str, Any] = {}
        self._mails: list[Any] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(_flush)
        Task.objects.all().delete()  # `migrate` schedules some of the site's
        self._names = vars(self._stack.enter_context(shop.shop()))
        return self

    def __exit__(self, kind: Any, error: Any, trace: TracebackType | None) -> None:
        self._stack.close()

    def run(self, snippet: Snippet, fixture: Fixture) -> None:
        """Run a snippet, after those of Python before it that have not run.

        Args:
            fixture: gives the pytest fixture of a name, to tests that the snippet declares.
        """
        if snippet.language != "python":
            _read(snippet)
            return
        for one in self._snippets[: self._snippets.index(snippet) + 1]:
            if one.language == "python" and one not in self._ran:
                self._ran[one] = self._try(one, fixture)
        if error := self._ran[snippet]:
            for one, story in self._ran.items():
                if story and one.line < snippet.line:
                    error.add_note(f"{one}, which stands before it, failed too: {story!r}")
            raise error

    def _try(self, snippet: Snippet, fixture: Fixture) -> Exception | None:
        try:
            self._run(snippet, fixture)
        except Exception as error:
            return error
        return None

    def _run(self, snippet: Snippet, fixture: Fixture) -> None:
        if not snippet.is_run:
            _read(snippet)
        elif settings_files.is_settings_file(python.parse(snippet)):
            self._settings |= settings_files.check(snippet)
        else:
            # pytest-django empties the outbox before each test, and each snippet is one.
            mail.outbox[:] = self._mails
            with override_settings(**self._settings), _patience(), _worker_for(snippet):
                tree = python.execute(snippet, self._names)
                shop.make_tables()
                self._run_tests(tree, fixture)
            self._mails = list(mail.outbox)

    def _run_tests(self, tree: ast.Module, fixture: Fixture) -> None:
        """Run the tests that a snippet has declared."""
        for node in tree.body:
            declared = self._names.get(getattr(node, "name", ""))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                Task.objects.all().delete()
                _call(declared, fixture)
            elif isinstance(declared, type) and issubclass(declared, unittest.TestCase):
                Task.objects.all().delete()
                _run_case(declared)


def _read(snippet: Snippet) -> None:
    """What can be done without running it."""
    if not snippet.is_run:
        reason = snippet.remarks["not run"]
        assert len(reason.split()) > 1, f"{snippet}: <!-- not run: --> wants a reason"
    if snippet.language == "python":
        python.parse(snippet)
    elif snippet.is_run:
        formats.check(snippet)


def _call(test: Callable[..., Any], fixture: Fixture) -> None:
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "usefixtures":
            for name in mark.args:
                fixture(name)
    test(**{name: fixture(name) for name in inspect.signature(test).parameters})


def _run_case(case: type[unittest.TestCase]) -> None:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun, f"{case.__name__} has no tests"
    for _, story in (*result.errors, *result.failures):
        raise AssertionError(story)


def _flush() -> None:
    call_command("flush", verbosity=0, interactive=False)


@contextmanager
def _patience() -> Iterator[None]:
    """End a block that waits in vain, for a result as a rule."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"a snippet took longer than {LONGEST} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LONGEST)
    try:
        yield
    except TimeoutError:
        connections.close_all()  # one may have been interrupted in the middle of a statement
        raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _worker_for(snippet: Snippet) -> Iterator[None]:
    """A worker in threads of this process, if the snippet wants one.

    A process of its own would not know the tasks that a page declares.
    """
    if "worker" not in snippet.remarks and not ASKS.search(snippet.source):
        yield
        return
    worker = InProcess(Options(threads=4, sleep=0.1))
    thread = threading.Thread(target=_work, args=[worker], name="docs-worker", daemon=True)
    thread.start()
    try:
        yield
        _settle()
    finally:
        _stop(worker, thread)


def _stop(worker: InProcess, thread: threading.Thread) -> None:
    until = time.monotonic() + PATIENCE
    while thread.is_alive():
        assert time.monotonic() < until, "the worker does not stop; its log says why"
        worker.stop()  # which is not heard before it has begun
        thread.join(0.05)


def _work(worker: InProcess) -> None:
    try:
        worker.run()
    finally:
        connections.close_all()


def _settle() -> None:
    """Wait until nothing runs and nothing is due."""
    until = time.monotonic() + PATIENCE
    rows = Task.objects.filter(task_name__in=registry.names(), failed_at=None)
    while rows.filter(run_at__lte=timezone.now()).exists():
        assert time.monotonic() < until, "tasks did not end: is one of them waiting for another?"
        time.sleep(0.01)
