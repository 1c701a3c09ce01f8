"""The wheel, installed from nothing: a new project with it, and the way back without it."""

from __future__ import annotations

import os
import sqlite3
import sys
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

import bgtasks
from tests.harness import needs, process

ROOT = process.ROOT
OURS = ("bgtasks", "background_task")
TASKS = """
from pathlib import Path

from {package} import background


@background
def write(name):
    Path(name).write_text("done")
"""


def run(*command: str | Path, cwd: Path = ROOT, fails: bool = False) -> str:
    """What a command that must succeed, or fail, has printed."""
    # Nothing of the tests' own settings and paths reaches the new project.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO_", "PYTHON"))}
    done = process.run(*command, env=env | {"PYTHONDONTWRITEBYTECODE": "1"}, cwd=cwd)
    printed = done.stdout + done.stderr
    assert bool(done.returncode) is fails, f"{command} ended with {done.returncode}:\n{printed}"
    return printed


def pip(*command: str | Path) -> str:
    return run(sys.executable, "-m", "pip", *command)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    try:
        pip("download", "--quiet", "--no-deps", "--dest", folder / "probe", "six")
    except AssertionError:
        needs.missing("a package index that pip can reach")
    pip("wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel, and what it asks for itself."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip("--python", python, "install", wheel)
    return python


class Project:
    """What ``django-admin startproject`` makes, with an app that has a task."""

    def __init__(self, python: Path, folder: Path) -> None:
        self._python = python
        self._folder = folder
        run(python, "-m", "django", "startproject", "shop", folder, cwd=folder)
        self._settings = folder / "shop" / "settings.py"
        self._as_made = self._settings.read_text()
        run(python, "manage.py", "startapp", "orders", cwd=folder)
        self.import_background_from("bgtasks")
        self.install(*OURS)

    def install(self, *apps: str) -> None:
        more = f"\nINSTALLED_APPS += {[*apps, 'orders']}\n"
        self._settings.write_text(self._as_made + more)

    def import_background_from(self, package: str) -> None:
        (self._folder / "orders" / "tasks.py").write_text(TASKS.format(package=package))

    def manage(self, *command: str, fails: bool = False) -> str:
        return run(self._python, "manage.py", *command, cwd=self._folder, fails=fails)

    def enqueue(self, name: str) -> None:
        self.manage("shell", "-c", f"from orders.tasks import write; write({name!r})")

    def has(self, name: str) -> bool:
        return (self._folder / name).exists()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self._folder / "db.sqlite3")
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def tables(self) -> set[str]:
        return {name for (name,) in self.query("SELECT name FROM sqlite_master")}


@pytest.fixture
def project(python: Path, tmp_path: Path) -> Project:
    return Project(python, tmp_path)


def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    info = f"django_bgtasks-{bgtasks.__version__}.dist-info"
    kinds = {".py", ".typed", ".html", ".css", ".js"}
    sources = [path for path in (ROOT / "bgtasks").rglob("*") if path.suffix in kinds]
    expected = {path.relative_to(ROOT).as_posix() for path in sources}
    assert {name for name in names if not name.startswith(f"{info}/")} == expected
    assert {
        "bgtasks/py.typed",
        "bgtasks/migrations/0001_initial.py",
        "bgtasks/management/commands/process_tasks.py",
        "bgtasks/queue/claims.py",
        "bgtasks/templates/bgtasks/admin/base.html",
        "bgtasks/static/bgtasks/admin.css",
    } <= expected
    assert ZipFile(wheel).read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_says_what_it_is_and_what_it_needs(wheel: Path) -> None:
    told = metadata(wheel)
    assert told["Name"] == "django-bgtasks"
    assert told["Version"] == bgtasks.__version__
    assert told["License-Expression"] == "BSD-3-Clause"
    assert told["Requires-Python"] == ">=3.11"
    needed = {line.replace(" ", "").lower() for line in told.get_all("Requires-Dist", [])}
    assert needed == {
        "celery<6,>=5.5;extra=='celery'",
        "cronsim<3,>=2.7",
        "cryptography>=45;extra=='mail'",
        "django-background-tasks==1.2.8",
        "django<7,>=5.2",
        "opentelemetry-api<2,>=1.30;extra=='traces'",
        "prometheus-client<1,>=0.22;extra=='metrics'",
        "rich>=14;extra=='terminal'",
    }
    assert told.get_payload() == (ROOT / "bgtasks" / "README.md").read_text()


def test_a_new_project_runs_a_task(project: Project) -> None:
    project.manage("migrate", "--verbosity", "0")
    project.manage("makemigrations", "--check")
    assert "no issues" in project.manage("check")
    project.enqueue("mail")
    assert not project.has("mail")
    project.manage("process_tasks", "--drain")
    assert project.has("mail")
    assert project.query("SELECT * FROM background_task") == []
    completed = "SELECT id, attempts, failed_at, last_error FROM background_task_completedtask"
    [(key, *how)] = project.query(completed)
    assert how == [1, None, ""]
    outcomes = "SELECT completed_id, state, attempts FROM bgtasks_outcome"
    assert project.query(outcomes) == [(key, "succeeded", 1)]
    assert project.query("SELECT * FROM bgtasks_worker") == []


def test_without_its_tables_the_worker_says_what_to_do(project: Project) -> None:
    project.manage("migrate", "background_task", "--verbosity", "0")
    assert "manage.py migrate" in project.manage("process_tasks", "--drain", fails=True)


def test_apps_in_the_wrong_order_are_refused(project: Project) -> None:
    project.manage("migrate", "--verbosity", "0")
    project.enqueue("mail")
    project.install(*reversed(OURS))
    assert "bgtasks.E001" in project.manage("check", fails=True)
    # It is the stock command that is found, and it checks before it runs.
    assert "--drain" not in project.manage("process_tasks", "--help")
    told = project.manage("process_tasks", "--duration", "1", "--sleep", "0.1", fails=True)
    assert "bgtasks.E001" in told
    assert not project.has("mail")


def test_the_way_back_loses_nothing(project: Project) -> None:
    project.import_background_from("background_task")
    project.manage("migrate", "--verbosity", "0")
    project.enqueue("done")
    project.manage("process_tasks", "--drain")
    project.enqueue("waiting")

    project.manage("migrate", "bgtasks", "zero", "--verbosity", "0")
    assert not {name for name in project.tables() if name.startswith("bgtasks")}
    project.enqueue("between")
    project.install("background_task")
    project.enqueue("new")
    assert "--drain" not in project.manage("process_tasks", "--help")
    project.manage("process_tasks", "--duration", "1", "--sleep", "0.1")

    assert all(map(project.has, ("waiting", "between", "new")))
    assert project.query("SELECT * FROM background_task") == []
    completed = project.query("SELECT attempts, failed_at FROM background_task_completedtask")
    assert completed == [(1, None)] * 4


def test_rows_of_before_are_run_after_the_way_there(project: Project) -> None:
    project.import_background_from("background_task")
    project.install("background_task")
    project.manage("migrate", "--verbosity", "0")
    project.enqueue("waiting")

    project.install(*OURS)
    project.manage("migrate", "--verbosity", "0")
    project.manage("process_tasks", "--drain")
    assert project.has("waiting")
    assert project.query("SELECT state FROM bgtasks_outcome") == [("succeeded",)]
