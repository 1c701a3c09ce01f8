"""Settings as an operator meets them: a process of its own, and its environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.harness.process import ROOT, run_python

pytestmark = pytest.mark.any_database

PRODUCTION = {
    "DOTENV": os.devnull,
    "SECRET_KEY": "x" * 60,
    "ALLOWED_HOSTS": "example.com,www.example.com",
    "DATABASE_URL": "postgres://me:secret@db.example.com:5433/signup",
    "EMAIL_URL": "smtp+tls://me:secret@mail.example.com:587",
}


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    return run_python("manage.py", *arguments, env=kept | {"DOTENV": os.devnull} | environment)


def setting(expression: str, **environment: str) -> object:
    code = f"import json; from django.conf import settings; print(json.dumps({expression}))"
    done = manage("shell", "-v0", "-c", code, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_any_environment_the_site_refuses_to_start_and_says_what_to_set() -> None:
    done = manage("check")
    assert done.returncode != 0
    assert "SECRET_KEY is not set" in done.stderr
    assert "DEBUG=1" in done.stderr


@pytest.mark.parametrize("value", ["0", "-1"])
def test_a_site_that_would_handle_no_request_refuses_to_start(value: str) -> None:
    done = manage("check", **PRODUCTION | {"REQUESTS_AT_ONCE": value})
    assert done.returncode != 0
    assert f"REQUESTS_AT_ONCE is {value}" in done.stderr
    assert "Set it to 1 or more" in done.stderr


def test_production_is_safe_without_being_told() -> None:
    names = [
        "DEBUG",
        "SECURE_SSL_REDIRECT",
        "SESSION_COOKIE_SECURE",
        "CSRF_COOKIE_SECURE",
        "SECURE_HSTS_SECONDS",
        "PROXY_HOPS",
        "SITE_URL",
    ]
    values = setting("[" + ",".join(f"settings.{name}" for name in names) + "]", **PRODUCTION)
    assert values == [False, True, True, True, 3600, 1, "https://example.com"]


def test_a_postgresql_url_is_all_that_postgresql_needs() -> None:
    database = setting("{**settings.DATABASES['default']}", **PRODUCTION)
    assert isinstance(database, dict)
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["HOST"], database["PORT"], database["NAME"]) == (
        "db.example.com",
        5433,
        "signup",
    )
    assert database["OPTIONS"]["connect_timeout"] == 5


def test_sqlite_is_opened_for_a_web_server_and_a_worker(tmp_path: Path) -> None:
    code = """
from django.db import connection
with connection.cursor() as cursor:
    for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys"):
        print(cursor.execute(f"PRAGMA {name}").fetchone()[0])
print(connection.transaction_mode)
"""
    sqlite = {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
    done = manage("shell", "-v0", "-c", code, **PRODUCTION | sqlite)
    assert done.stdout.split() == ["wal", "1", "20000", "1", "IMMEDIATE"], done.stderr


def test_an_email_url_reaches_the_mail_backend() -> None:
    code = """
from django.core import mail
import django
if django.VERSION >= (6, 1):
    backend = mail.mailers.default
else:
    backend = mail.get_connection()
print(backend.host, backend.port, backend.username, backend.password, backend.use_tls,
      backend.use_ssl, backend.timeout)
"""
    done = manage("shell", "-v0", "-c", code, **PRODUCTION)
    expected = ["mail.example.com", "587", "me", "secret", "True", "False", "10"]
    assert done.stdout.split() == expected, done.stderr


def test_in_development_mails_become_files(tmp_path: Path) -> None:
    code = (
        "from django.core.mail import send_mail; send_mail('Hello', 'you', None, ['a@b.example'])"
    )
    folder = tmp_path / "mail"
    done = manage("shell", "-v0", "-c", code, DEBUG="1", EMAIL_URL=f"filemail:///{folder}")
    assert done.returncode == 0, done.stderr
    [mail] = folder.iterdir()
    assert "Subject: Hello" in mail.read_text()
    default = setting(
        "str(settings.MAILERS if hasattr(settings, 'MAILERS') else settings.EMAIL_FILE_PATH)",
        DEBUG="1",
    )
    assert str(ROOT / "var" / "mail") in str(default)


def test_any_storage_can_be_named() -> None:
    backend = "tests.harness.storage.DisklessStorage"
    options = {"STORAGE_BACKEND": backend, "STORAGE_OPTIONS": '{"a": 1}'}
    assert setting("settings.STORAGES['default']", **PRODUCTION | options) == {
        "BACKEND": backend,
        "OPTIONS": {"a": 1},
    }


def test_check_warns_of_local_files_beside_a_remote_database() -> None:
    done = manage("check", **PRODUCTION)
    assert "site.W001" in done.stderr
    assert "the database is on db.example.com" in done.stderr
    local = {"DATABASE_URL": "postgres://127.0.0.1/signup"}
    assert "site.W001" not in manage("check", **PRODUCTION | local).stderr
    remote = {"STORAGE_BACKEND": "django.core.files.storage.InMemoryStorage"}
    assert "site.W001" not in manage("check", **PRODUCTION | remote).stderr


def test_deploy_check_warns_of_links_that_lead_nowhere() -> None:
    anywhere = PRODUCTION | {"ALLOWED_HOSTS": "*"}
    assert "site.W004" in manage("check", "--deploy", **anywhere).stderr
    subdomains = PRODUCTION | {"ALLOWED_HOSTS": ".example.com"}
    assert setting("settings.SITE_URL", **subdomains) == "https://example.com"


def test_a_secret_key_may_begin_with_a_dollar_sign() -> None:
    key = "$" + "x" * 60
    assert setting("settings.SECRET_KEY", **PRODUCTION | {"SECRET_KEY": key}) == key


def test_deploy_check_warns_of_a_mail_server_that_nobody_named() -> None:
    without = {name: value for name, value in PRODUCTION.items() if name != "EMAIL_URL"}
    assert "site.W003" in manage("check", "--deploy", **without).stderr
    assert "site.W003" not in manage("check", "--deploy", **PRODUCTION).stderr


DECODE_MANY_PARTS = """
from django.core.files.base import ContentFile
from signup import images
from tests.harness import pictures
palettes = pictures.png_chunk(b"PLTE", bytes(3)) * 3_000
images.check(ContentFile(pictures.png_with(palettes), "me.png"))
print("decoded")
"""


def test_a_picture_writes_no_line_of_log_for_each_of_its_parts() -> None:
    done = manage("shell", "-v0", "-c", DECODE_MANY_PARTS, DEBUG="1", LOG_LEVEL="DEBUG")
    assert done.stdout == "decoded\n"
    assert len(done.stderr.splitlines()) < 100


@pytest.mark.parametrize(
    ("environment", "there"),
    [({"DEBUG": "1"}, True), (PRODUCTION, False), (PRODUCTION | {"LAB": "1"}, True)],
    ids=["development", "production", "production with LAB"],
)
def test_production_has_a_lab_only_if_it_is_asked_for(
    environment: dict[str, str], there: bool
) -> None:
    code = "from django.urls import is_valid_path; print(is_valid_path('/lab/'))"
    done = manage("shell", "-v0", "-c", code, **environment)
    assert (done.stdout == "False\n") is not there, done.stderr
    assert setting("'lab' in settings.INSTALLED_APPS", **environment) is there
