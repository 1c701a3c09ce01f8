from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import django
import pytest
from background_task.models import Task
from background_task.tasks import tasks as registry
from django.core.files.storage import default_storage

from signup.models import User
from tests import settings
from tests.harness import flush, needs
from tests.harness.site import LiveSite

# As its entry point does where bgtasks is installed.
pytest_plugins = ["bgtasks.pytest_plugin"]
# These bring databases of their own: with PostgreSQL they would be the same again.
ON_SQLITE = ["bgtasks/test_wheel.py", "bgtasks/defects", "bgtasks/queue/test_sqlite.py"]
# The harness of these counts commits as PostgreSQL reports them, and its tasks need Django 6.
DUE_WORK = "bgtasks/due_work"
ON_POSTGRESQL = [DUE_WORK, "harness/test_spares.py"]
collect_ignore = ON_SQLITE if settings.DATABASE == "postgresql" else list(ON_POSTGRESQL)
if django.VERSION < (6,):  # and with that, Python before 3.12
    collect_ignore = [*collect_ignore, DUE_WORK]

# The system's own: tests replace it in its module. Windows has none.
SET_TIMER = getattr(signal, "setitimer", None)
# Fixtures that live as long as the process of the tests and take seconds to set up.
SET_UP_ONCE = {"site", "wheel"}


def pytest_xdist_auto_num_workers() -> int:
    """Four processes for two cores: a good part of the time, a test waits for others."""
    return (os.cpu_count() or 1) * 2


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """A long text is named by its beginning: some have a hundred thousand characters."""
    return f"{val[:60]}..." if isinstance(val, str) and len(val) > 100 else None


def pytest_report_header() -> str:
    return f"database: {settings.DATABASE}; REQUIRE_ALL: {needs.REQUIRE_ALL}"


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if settings.DATABASE == "postgresql" and needs.postgresql_problem() and not needs.REQUIRE_ALL:
        # One test says what is missing; as many more lines would only hide it.
        config.hook.pytest_deselected(items=items[1:])
        del items[1:]
    # They are run with the other database, so that they are not skipped here.
    other = {"postgresql": "on_sqlite", "sqlite": "on_postgresql"}[settings.DATABASE]
    elsewhere = [item for item in items if item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]
    for item in items:
        # A process of pytest-xdist runs whole groups: what is dear to set up, it sets up once.
        for fixture in SET_UP_ONCE & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(fixture))
    # Groups come first, for they take long: at the end no process has one left while others wait.
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """With a failure of the live site, show what its processes said.

    With REQUIRE_ALL=1, a skip is a failure. A test that is expected to fail was run, and pytest
    reports it as skipped all the same.
    """
    report = yield
    if needs.REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which REQUIRE_ALL=1 forbids: {report.longrepr}"
    site = getattr(item, "funcargs", {}).get("site")
    if report.failed and site:
        for name in ("web", "worker"):
            lines = getattr(site, name).output.splitlines()
            report.sections.append((f"The site's {name}", "\n".join(lines[-60:])))
    return report


@pytest.fixture(scope="session", autouse=True)
def database_server() -> None:
    """With TEST_DATABASE=postgresql and none to be found, every test says so."""
    if settings.DATABASE == "postgresql" and (problem := needs.postgresql_problem()):
        needs.missing(problem)
    flush.quickly()


@pytest.fixture(autouse=True)
def _storage(settings: Any, tmp_path: os.PathLike[str]) -> None:
    settings.MEDIA_ROOT = f"{tmp_path}/media"


@pytest.fixture(autouse=True)
def _no_timer_is_left() -> Iterator[None]:
    """A timer of the system that a test leaves behind would end this process in a later test."""
    yield
    if SET_TIMER:
        left, _ = SET_TIMER(signal.ITIMER_REAL, 0)
        assert not left, f"the test has left a timer, which would send SIGALRM in {left:.0f} s"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    """The site as it is deployed, started once for all tests that visit it."""
    site = LiveSite(tmp_path_factory.mktemp("site"))
    try:
        site.start()
        yield site
    finally:
        site.stop()


@pytest.fixture
def user(db: None) -> User:
    user = User.objects.create_user("zoe", "zoe@example.com", "quite-Long-99")
    Task.objects.all().delete()
    return user


def queued(*names: str) -> list[tuple[str, list[Any]]]:
    """The waiting rows of the given tasks (of all but the sweep): name and arguments."""
    rows = Task.objects.exclude(task_name="signup.tasks.sweep_files").order_by("pk")
    calls = [(row.task_name.rpartition(".")[2], json.loads(row.task_params)[0]) for row in rows]
    return [call for call in calls if not names or call[0] in names]


def run_queued() -> None:
    """Run the waiting rows, and those that they enqueue, as the worker does."""
    while registry.run_next_task():
        pass


def stored() -> list[str]:
    """Every file in the storage."""
    names = []
    for folder in ("originals", "pictures", "reports"):
        try:
            names += [f"{folder}/{name}" for name in default_storage.listdir(folder)[1]]
        except FileNotFoundError:
            continue
    return sorted(names)
