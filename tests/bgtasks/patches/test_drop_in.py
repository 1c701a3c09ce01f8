"""P9: the tests of django-background-tasks itself, above our app."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import settings
from tests.harness.process import ROOT

SETTINGS = """
from urllib.parse import urlsplit

from background_task.tests.test_settings import *

# Its asynchronous tests sleep to give a pool's threads time. Ours runs a row to its end before
# it returns, so that there is nothing to wait for.
import time

time.sleep = lambda seconds: None

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.contenttypes", "django.contrib.auth", "bgtasks", "background_task",
]
BACKGROUND_TASK_RUN_ASYNC = {run_async}
TEST_RUNNER = "tests.harness.flush.Runner"
if {postgresql!r}:
    url = urlsplit({postgresql!r})
    DATABASES["default"] = {{
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path[1:],
        "USER": url.username,
        "PASSWORD": url.password,
        "HOST": url.hostname,
        "PORT": url.port,
        "TEST": {{"NAME": "bgtasks_drop_in_{pid}"}},
    }}
"""
ON_POSTGRESQL = settings.DATABASE == "postgresql"


@pytest.mark.parametrize("run_async", [False, True])
def test_p9_its_own_test_suite_passes_above_our_app(tmp_path: Path, run_async: bool) -> None:
    url = settings.POSTGRES_URL if ON_POSTGRESQL else ""
    text = SETTINGS.format(run_async=run_async, postgresql=url, pid=os.getpid())
    (tmp_path / "above_ours.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "django", "test", "background_task.tests", "--noinput"],
        cwd=tmp_path,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "above_ours",
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Ran 55 tests" in done.stderr
