"""The pytest plugin and its fixture."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from bgtasks.testing import (
    run_pending,
)
from tests.bgtasks.testing.helpers import note, ran, tell_from_a_coroutine
from tests.harness.process import ROOT


def test_the_fixture_has_it_all(either: None, bgtasks: Any) -> None:
    note("a")
    bgtasks.assert_enqueued(note, "a")
    assert [result.get() for result in bgtasks.run_pending()] == ["a"]
    with bgtasks.capture() as calls, bgtasks.eager():
        assert note.delay("b").get() == "b"
    assert len(calls) == 1
    bgtasks.assert_nothing_enqueued()


FILES = {
    "settings.py": """
        SECRET_KEY = "tests-only"
        USE_TZ = True
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        INSTALLED_APPS = [
            "bgtasks", "background_task", "django.contrib.contenttypes", "django.contrib.auth",
            "shop",
        ]
    """,
    "shop/__init__.py": "",
    "shop/tasks.py": """
        from bgtasks import background

        @background
        def add(a, b):
            return a + b
    """,
    "test_shop.py": """
        import pytest
        from django.test import TestCase

        from shop.tasks import add

        @pytest.mark.django_db
        def test_pending(bgtasks):
            result = add.delay(4, 5)
            bgtasks.assert_enqueued(add, 4, 5)
            bgtasks.run_pending()
            assert result.get() == 9

        @pytest.mark.django_db(transaction=True)
        def test_eager(bgtasks):
            with bgtasks.eager():
                assert add.delay(4, 5).get() == 9

        def test_without_access_to_the_database(bgtasks):
            with pytest.raises(RuntimeError, match="Database access not allowed"):
                bgtasks.run_pending()

        class Tests(TestCase):
            @pytest.fixture(autouse=True)
            def _bgtasks(self, bgtasks):
                self.bgtasks = bgtasks

            def test_pending(self):
                add(4, 5)
                self.assertEqual([done.get() for done in self.bgtasks.run_pending()], [9])
    """,
    "plain/test_plain.py": """
        import sys

        def test_without_django():
            assert "bgtasks.pytest_plugin" in sys.modules
            assert "django.conf" not in sys.modules
    """,
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, and beside it the entry points of bgtasks as pip would write them down."""
    folder = tmp_path_factory.mktemp("shop")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        indent = len(text) - len(text.lstrip("\n ")) - 1 if text else 0
        path.write_text("\n".join(line[indent:] for line in text.splitlines()) + "\n")
    metadata = folder / "django_bgtasks-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: django-bgtasks\nVersion: 0\n")
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    points = [f"{name} = {value}" for name, value in groups["pytest11"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[pytest11]", *points]))
    return folder


def pytest_in(folder: Path, *arguments: str) -> str:
    given = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    given.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".",
         *arguments],
        cwd=folder,
        env={**given, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )  # fmt: skip
    return done.stdout


def test_the_fixture_is_there_for_whoever_installs_the_app(installed: Path) -> None:
    output = pytest_in(installed, "--ds=settings", "-W", "error", "test_shop.py")
    assert "4 passed" in output, output


def test_and_harms_nobody_who_has_no_django(installed: Path) -> None:
    output = pytest_in(installed, "-p", "no:django", "-W", "error", "plain")
    assert "1 passed" in output, output


def test_what_expires_by_then_is_not_run(either: None) -> None:
    result = note.apply_async(("a",), expires=60)
    run_pending(at=timezone.now() + timedelta(hours=2))
    assert (ran, result.cancelled()) == ([], True)


def test_a_coroutine_may_tell_how_far_it_is(either: None) -> None:
    result = tell_from_a_coroutine.delay()
    run_pending()
    assert result.get() == 3
    assert result.progress == (3, 3, "done")
