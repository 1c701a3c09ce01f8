"""The log of the worker: each record is one line, whatever stands in a row."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path
from typing import Any

import pytest

import bgtasks
from bgtasks import logs
from tests.harness.deployment import Deployment
from tests.harness.threads import in_threads

pytestmark = pytest.mark.any_database

FORGED = "a task\n2026-01-01 ERROR bgtasks: all is lost"
MODULES = sorted(Path(bgtasks.__file__).parent.rglob("*.py"))


@pytest.fixture
def written() -> Any:
    stream = io.StringIO()
    logger = logs.get_logger("bgtasks.of_a_test")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


@pytest.mark.parametrize("part", [*"\n\r\x00\x1b\x7f\x85\u2028\u202e\u2066\ud800", "\r\n"])
def test_p10_no_text_of_a_row_forges_a_line(written: Any, part: str) -> None:
    logger, stream = written
    logger.error("Task %s (id %d), %.1f s, %r", f"a{part}b", 7, 1.5, None)
    logger.error(f"a{part}b")
    escaped = part.encode("unicode_escape").decode()
    assert stream.getvalue() == f"Task a{escaped}b (id 7), 1.5 s, None\na{escaped}b\n"


def test_other_texts_are_logged_as_they_are(written: Any) -> None:
    logger, stream = written
    logger.error("%s %s", "zoë 漢字 \\n é\N{PILE OF POO}", ValueError("x"))
    assert stream.getvalue() == "zoë 漢字 \\n é\N{PILE OF POO} x\n"


def test_a_traceback_keeps_its_lines(written: Any) -> None:
    logger, stream = written
    try:
        raise ValueError
    except ValueError:
        logger.exception("It failed.")
    assert len(stream.getvalue().splitlines()) > 3


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_module_logs_by_such_a_logger(module: Path) -> None:
    if module.name != "logs.py":
        assert not re.search(r"logging\.getLogger\(", module.read_text())


def test_p10_a_line_break_in_a_name_forges_no_line_of_a_workers_log(project: Deployment) -> None:
    project.run(
        f"tasks.work(1, verbose_name={FORGED!r})\n"
        f"tasks.fail(2, verbose_name={FORGED!r})\n"
        f"tasks.kill_worker(3, verbose_name={FORGED!r})"
    )
    output = project.drain()
    assert "a task\\n2026-01-01 ERROR" in output
    assert not re.search(r"^2026-01-01", output, re.MULTILINE)


class Lock:
    """As a handler of a project's own may have one."""

    def acquire(self) -> bool:
        return True


def test_while_a_worker_forks_no_other_thread_is_in_a_handler(written: Any) -> None:
    logger, _ = written
    strange, handler = logging.StreamHandler(), logger.handlers[0]
    strange.lock = Lock()

    def is_free(_: int = 0) -> bool:
        free: bool = handler.lock.acquire(blocking=False)
        if free:
            handler.lock.release()
        return free

    with logs.no_record_half_written():
        assert in_threads(1, is_free) == [False]
    assert in_threads(1, is_free) == [True]
