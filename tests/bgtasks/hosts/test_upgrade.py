"""A rolling upgrade: workers of the previous release beside those of this one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.harness import needs
from tests.harness.deployment import PRELUDE, Deployment
from tests.harness.process import ROOT, Process, kill_tree, run
from tests.harness.waiting import eventually

# What was released last: there is no tag yet.
PREVIOUS = "1ca3bb7"


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the previous release, installed from the wheel that it builds."""
    folder = tmp_path_factory.mktemp("previous")
    command = ["git", "archive", PREVIOUS]
    packed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        needs.missing(f"the repository's history ({packed.stderr.decode().strip()})")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder / "source", filter="data")
    installed = folder / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    done = run(*map(str, [*install, installed, folder / "source"]), env=os.environ, timeout=300)
    if done.returncode:
        needs.missing(f"a package index that pip can reach ({done.stderr.strip()[-200:]})")
    return installed


class Release:
    """Starts processes of a project with one release.

    Args:
        folder: where the release is installed; None for this one.
    """

    def __init__(self, project: Deployment, folder: Path | None) -> None:
        self._project = project
        # The folder in which a process runs, which has this release, is not searched first.
        self._place = {"PYTHONPATH": f"{folder}:{ROOT}", "PYTHONSAFEPATH": "1"} if folder else {}

    def worker(self) -> Process:
        command = ["process_tasks", "--sleep", "0.1", "--threads", "2"]
        worker = Process("-m", "django", *command, env=self._project.environment(**self._place))
        self._project.workers.append(worker)
        worker.wait_for("is ready")
        return worker

    def run(self, code: str) -> str:
        env = self._project.environment(**self._place)
        done = run(sys.executable, "-c", PRELUDE + code, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def old(project: Deployment, previous: Path) -> Release:
    release = Release(project, previous)
    assert release.run("import bgtasks; print(bgtasks.__file__)").startswith(str(previous))
    return release


@pytest.fixture
def new(project: Deployment) -> Release:
    return Release(project, None)


def lose_host(project: Deployment, dies: Release, lives: Release, key: str) -> None:
    """Kill a worker of one release; one of the other takes its task back."""
    go = project.folder / f"go-{key}"
    worker = dies.worker()
    project.run(f"tasks.until({key!r}, {str(go)!r})")
    project.wait_for("begin", key)
    rescuer = lives.worker()
    kill_tree(worker.pid)
    project.wait_for("begin", key, count=2)
    go.touch()
    eventually(lambda: not project.rows(), "it is recorded")
    assert rescuer.stop() == 0


def test_each_release_takes_back_the_tasks_of_the_other(
    project: Deployment, old: Release, new: Release
) -> None:
    lose_host(project, dies=old, lives=new, key="old")
    lose_host(project, dies=new, lives=old, key="new")
    assert [each["state"] for each in project.attempts()] == ["lost", "lost"]
    assert [each["attempts"] for each in project.completed()] == [2, 2]


def test_workers_are_replaced_one_after_another_under_load(
    project: Deployment, old: Release, new: Release
) -> None:
    workers = [old.worker(), old.worker()]
    for number, (worker, release) in enumerate(zip(workers, (new, old), strict=True)):
        release.run(
            f"[tasks.slow(f'{number}-{{n}}', 0.01) for n in range(100)]\n"
            f"[tasks.coroutine(f'c{number}-{{n}}') for n in range(50)]"
        )
        project.wait_for("end", count=20 + 150 * number)
        assert worker.stop() == 0  # its tasks have a grace period, and end
        new.worker()
    eventually(lambda: len(project.completed()) == 300, "all are run")
    assert len(project.ledger("begin")) == 300
    assert project.attempts() == []
