"""What a real worker says of itself: what it serves, and what it waits for at its end."""

from __future__ import annotations

import os
import re
import signal

import pytest

from bgtasks.clock import elapsed
from bgtasks.supervisor import announcing
from tests.bgtasks.worker.helpers import Deploy
from tests.harness.deployment import Deployment

pytestmark = pytest.mark.any_database


def test_it_says_what_it_serves(project: Deployment) -> None:
    output = project.drain("--processes", "2", "--threads", "3", "--queue", "a,b")
    (line,) = [line for line in output.splitlines() if "is ready" in line]
    assert "It serves the queues a, b. Processes: 2, threads: 3, coroutines: 200." in line
    assert re.search(r"Tasks known: [1-9]\d+\.$", line)


def test_ctrl_c_names_what_still_runs_and_how_long_it_is_waited_for(deploy: Deploy) -> None:
    project = deploy(LOGGING={}, BGTASKS_GRACE=500)
    go = project.folder / "go"
    project.run(f"tasks.until(1, {str(go)!r})")
    worker = project.worker(session=True)
    project.wait_for("begin")
    os.killpg(worker.pid, signal.SIGINT)
    line = worker.wait_for("is stopping")
    assert re.search(r"It waits for what still runs, at most (500|49\d) s: \d+ ", line)
    assert re.search(r"tests\.bgtasks\.project\.tasks\.until \(for \d+\.\d s\)\. A second", line)
    go.touch()
    assert worker.wait() == 0
    assert "is stopped." in worker.output


def test_one_with_nothing_to_wait_for_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    announcing.stopping("w", {}, 5.0, "")
    assert caplog.messages == [f"Worker w (process {os.getpid()}) is stopping. Nothing runs."]


def test_a_worker_without_children_says_it_too(project: Deployment) -> None:
    go = project.folder / "go"
    project.run(f"tasks.until(1, {str(go)!r})")
    worker = project.python(
        "from bgtasks import launch\n"
        "from bgtasks.worker.options import Options\n"
        "launch.launch(Options(sleep=0.1), fork=False)"
    )
    project.wait_for("begin")
    os.kill(worker.pid, signal.SIGINT)
    assert "as long as that takes: " in worker.wait_for("is stopping")
    go.touch()
    assert worker.wait() == 0


@pytest.mark.django_db
def test_of_many_running_tasks_the_oldest_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    now = elapsed()
    announcing.stopping("w", {pk: now - pk for pk in range(1, 31)}, 5.0, "")
    (line,) = caplog.messages
    assert "at most 5 s: 30 (for 30." in line
    assert " s), 29 (for 29." in line
    assert line.endswith(" s), and 10 more.")
    assert ", 11 (for 11." in line
