"""The file that a worker's heartbeats renew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.deployment import Deployment
from tests.harness.process import children, thaw
from tests.harness.waiting import eventually


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "heartbeat"


def renewed(file: Path) -> None:
    """Wait until its time is another."""
    os.utime(file, (0, 0))
    eventually(lambda: file.stat().st_mtime > 0, "a heartbeat")


def test_each_heartbeat_renews_it_and_the_end_removes_it(
    deploy: Callable[..., Deployment], file: Path
) -> None:
    worker = deploy(BGTASKS_LEASE=1).worker("--heartbeat-file", str(file))
    eventually(file.exists, "the file")
    renewed(file)
    renewed(file)
    assert worker.stop() == 0
    assert not file.exists()


def test_that_of_a_frozen_worker_grows_old(deploy: Callable[..., Deployment], file: Path) -> None:
    project = deploy(BGTASKS_LEASE=1)
    frozen = project.worker("--heartbeat-file", str(file))
    frozen.wait_for("is ready")
    eventually(lambda: children(frozen.pid), "its child")
    worker = [frozen.pid, *children(frozen.pid)]
    project.freeze(worker)
    os.utime(file, (0, 0))
    other = project.worker()  # it waits for so long that the frozen one would have renewed its file
    other.wait_for("is dead")
    assert file.stat().st_mtime == 0
    thaw(worker)
    renewed(file)


def test_without_a_database_there_is_no_heartbeat(
    deploy: Callable[..., Deployment], file: Path
) -> None:
    file.touch()  # a killed worker has left it
    project = deploy()
    waiting = project.worker(
        "--heartbeat-file", str(file), DATABASE_URL="postgres://nobody@127.0.0.1:1/nothing"
    )
    waiting.wait_for("Waiting for the database")
    assert not file.exists()


@pytest.mark.parametrize("path", ["/nowhere/heartbeat", "{folder}"])
def test_a_path_that_cannot_be_written_ends_the_worker_with_a_word(
    project: Deployment, path: str
) -> None:
    path = path.format(folder=project.folder)
    worker = project.worker("--heartbeat-file", path)
    assert worker.wait() == 1
    assert f"The heartbeat file {path} cannot be written" in worker.output
    assert "Give another --heartbeat-file" in worker.output
    assert "Traceback" not in worker.output
