from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from signup.tasks import discard_files


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a database that is not there, of which the settings speak now."""
    connection.close()
    name = "/nowhere/db.sqlite3" if connection.vendor == "sqlite" else "no_such_database"
    monkeypatch.setitem(connection.settings_dict, "NAME", name)
    return name


@pytest.mark.django_db
def test_healthz_answers_200_while_the_database_is_reachable(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()["status"]) == (200, "ok")


@pytest.mark.django_db
def test_healthz_asks_neither_for_a_host_nor_for_https(client: Client, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/healthz", headers={"host": "10.0.0.7"}).status_code == 200
    assert client.get("/", headers={"host": "10.0.0.7"}).status_code in (301, 400)


@pytest.mark.django_db(transaction=True)
def test_healthz_answers_503_without_the_database_and_tells_no_secret(
    client: Client, lost: str
) -> None:
    response = client.get("/healthz")
    assert response.status_code == 503
    assert "OperationalError" in response.json()["database"]
    assert lost not in response.content.decode()


@pytest.mark.django_db(transaction=True)
def test_healthz_answers_503_when_migrate_never_ran(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    connection.close()
    # SQLite makes the file that it does not find; on a PostgreSQL server stands "postgres".
    empty = str(tmp_path / "empty") if connection.vendor == "sqlite" else "postgres"
    monkeypatch.setitem(connection.settings_dict, "NAME", empty)
    response = client.get("/healthz")
    connection.close()
    assert response.status_code == 503


@pytest.mark.django_db(transaction=True)
def test_the_health_of_the_queue_is_apart(client: Client) -> None:
    assert client.get("/healthz/queue").json() == {"status": "ok", "queue": "ok"}
    discard_files(["a"], schedule=timezone.now() - timedelta(minutes=1))
    response = client.get("/healthz/queue")
    assert response.status_code == 503
    assert "no worker runs" in response.json()["queue"][0]
    assert client.get("/healthz").status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("lost")
def test_without_the_database_the_queue_is_not_healthy(client: Client) -> None:
    assert client.get("/healthz/queue").status_code == 503
