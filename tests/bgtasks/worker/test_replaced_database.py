"""Real workers whose database is deleted, replaced, restored or made anew while they run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests import settings
from tests.harness.deployment import Deployment
from tests.harness.process import Process, children
from tests.harness.waiting import eventually


def remove(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(f"{path.name}{end}").unlink(missing_ok=True)


def has_opened(worker: Process, children_: int) -> bool:
    """Whether the worker and all its children have opened the database, with its write-ahead log.

    SQLite opens the log by its name, after the file. If the file is moved between the two, what the
    log has gets into the file that stands there by then, and spoils it. No program can help that.
    """
    pids = [worker.pid, *children(worker.pid)]
    return sum(has_log_open(pid) for pid in pids) == 1 + children_


def has_log_open(pid: int) -> bool:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            if descriptor.readlink().name.endswith("-wal"):
                return True
    return False


def delete_and_migrate(project: Deployment, backup: Path) -> None:
    remove(project.database.path)
    assert project.manage("migrate", "--verbosity", "0").returncode == 0


def put_in_place(project: Deployment, backup: Path) -> None:
    remove(project.database.path)
    os.replace(backup, project.database.path)  # noqa: PTH105


def move_away_and_back(project: Deployment, backup: Path) -> None:
    project.database.path.rename(backup.with_name("away"))
    put_in_place(project, backup)


def make_anew(project: Deployment, backup: Path) -> None:
    project.database.drop()
    project.database.administer(f'CREATE DATABASE "{project.database.name}"')
    assert project.manage("migrate", "--verbosity", "0").returncode == 0


def make_the_tables_anew(project: Deployment, backup: Path) -> None:
    for app in ("bgtasks", "background_task"):
        assert project.manage("migrate", app, "zero").returncode == 0
    assert project.manage("migrate", "--verbosity", "0").returncode == 0


@pytest.fixture
def backup(project: Deployment, tmp_path: Path) -> Path:
    """A copy of the migrated database, where it is a file."""
    copy = tmp_path / "backup"
    if not project.database.on_postgresql:
        shutil.copy(project.database.path, copy)
    return copy


Change = Callable[[Deployment, Path], None]
FILES = [delete_and_migrate, put_in_place, move_away_and_back]


ON_POSTGRESQL = settings.DATABASE == "postgresql"
CHANGES = [make_anew] if ON_POSTGRESQL else FILES


@pytest.mark.parametrize("arguments", [(), ("--processes", "2", "--threads", "2")])
@pytest.mark.parametrize("change", [*CHANGES, make_the_tables_anew])
def test_p2_a_worker_goes_on_with_the_database_that_is_there_now(
    project: Deployment, backup: Path, change: Change, arguments: tuple[str, ...]
) -> None:
    worker = project.worker(*arguments)
    project.run("tasks.work('before')")
    eventually(lambda: project.completed(), "recorded")
    if change in FILES:
        eventually(lambda: has_opened(worker, 2 if arguments else 1), "the database is open")
    change(project, backup)
    project.run("tasks.work('after')")
    project.wait_for("work", "after")
    eventually(lambda: len(project.completed()) == 1, lambda: f"one ending\n{worker.output}")
    assert len(project.rows("bgtasks_worker")) == 1
    if change in FILES:
        assert f"The database file {project.database.path} is another one" in worker.output
    assert worker.stop() == 0


def test_a_file_that_is_gone_is_waited_for_and_not_made_anew(
    project: Deployment, backup: Path
) -> None:
    if ON_POSTGRESQL:  # it has no file
        return
    worker = project.worker()
    project.run("tasks.work('before')")
    project.wait_for("work", "before")  # else the child may open, and make, the file after this
    remove(project.database.path)
    worker.wait_for(f"The database file {project.database.path} is gone")
    assert not project.database.path.exists()
    put_in_place(project, backup)
    project.run("tasks.work('after')")
    project.wait_for("work", "after")
    assert worker.stop() == 0


def test_a_worker_of_one_process_says_so_and_ends(project: Deployment, backup: Path) -> None:
    if ON_POSTGRESQL:  # it has no file
        return
    code = (
        "from bgtasks.supervisor.in_process import InProcess\n"
        "from bgtasks.worker.options import Options\n"
        "InProcess(Options()).run()"
    )
    worker = project.python(code)
    worker.wait_for("is ready")
    put_in_place(project, backup)
    worker.wait_for("is another one than this worker has open")
    worker.wait_for("Start it again")
    assert worker.wait() == 0


def test_a_worker_with_a_runner_of_the_project_opens_the_file_anew(
    project: Deployment, backup: Path
) -> None:
    if ON_POSTGRESQL:  # it has no file
        return
    worker = project.worker(MORE_APPS="tests.bgtasks.project.running")
    project.run("tasks.work('before')")
    project.wait_for("work", "before")
    put_in_place(project, backup)
    worker.wait_for("It is opened anew")
    project.run("tasks.work('after')")
    project.wait_for("work", "after")
    worker.stop()
