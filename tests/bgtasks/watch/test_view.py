"""What the view of a task says, and to whom."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.models import Task
from django.core.exceptions import ImproperlyConfigured
from django.core.signing import Signer
from django.template import Context, Template
from django.test import Client, override_settings

from bgtasks import AsyncResult
from bgtasks.watch import watch_url
from signup.models import User
from signup.tasks import discard_files
from tests.conftest import run_queued

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def row(user: User) -> Task:
    return discard_files(["a-name"], creator=user)


def asked_by(user: User | None, url: str, query: str = "", **headers: str) -> Any:
    client = Client()
    if user:
        client.force_login(user)
    return client.get(url + query, headers=headers)


@pytest.mark.parametrize("ended", [False, True])
def test_only_its_creator_and_staff_learn_of_a_task(row: Task, user: User, ended: bool) -> None:
    if ended:
        run_queued()
    staff = User.objects.create_user("boss", is_staff=True)
    former = User.objects.create_user("former", is_staff=True, is_active=False)
    other = User.objects.create_user("other")
    who = [None, other, former, user, staff]
    url = watch_url(row.pk)
    assert [asked_by(each, url).status_code for each in who] == [404, 404, 404, 200, 200]


def test_a_task_without_a_creator_is_for_staff_alone(user: User) -> None:
    url = watch_url(discard_files([]))
    assert asked_by(user, url).status_code == 404
    assert asked_by(User.objects.create_user("boss", is_staff=True), url).status_code == 200


@pytest.mark.parametrize("salt", ["another", None])
def test_an_id_that_was_not_signed_here_is_none(row: Task, user: User, salt: str | None) -> None:
    signed = str(row.pk) if salt is None else Signer(salt=salt).sign(str(row.pk))
    assert asked_by(user, f"/tasks/{signed}/").status_code == 404


def test_a_task_that_was_deleted_is_not_found(row: Task, user: User) -> None:
    url = watch_url(row)
    row.delete()
    assert asked_by(user, url).status_code == 404


def test_json_says_how_far_it_is_and_nothing_of_the_arguments(row: Task, user: User) -> None:
    response = asked_by(user, watch_url(row))
    assert response.json() == {
        "state": "waiting", "ended": False, "succeeded": False,
        "attempt": 0, "delayed": False, "progress": None,
    }  # fmt: skip
    assert "no-store" in response["Cache-Control"]
    run_queued()
    told = asked_by(user, watch_url(row)).json()
    assert (told["state"], told["ended"], told["succeeded"]) == ("succeeded", True, True)


@pytest.mark.parametrize(
    ("query", "headers", "type_"),
    [
        ("", {}, "application/json"),
        ("", {"Accept": "text/html,*/*;q=0.8"}, "text/html"),
        ("", {"HX-Request": "true", "Accept": "*/*"}, "text/html"),
        ("?format=html", {"Accept": "application/json"}, "text/html"),
        ("?format=json", {"HX-Request": "true"}, "application/json"),
    ],
)
def test_the_caller_chooses_the_format(
    row: Task, user: User, query: str, headers: dict[str, str], type_: str
) -> None:
    response = asked_by(user, watch_url(row), query, **headers)
    assert response.status_code == 200
    assert response["Content-Type"].startswith(type_)


@pytest.mark.parametrize(("query", "accept"), [("?format=xml", "*/*"), ("", "image/png"), ("", "")])
def test_what_cannot_be_had_is_answered_with_what_can(
    row: Task, user: User, query: str, accept: str
) -> None:
    response = asked_by(user, watch_url(row), query, Accept=accept)
    assert response.status_code == 406
    assert "?format=json" in response.content.decode()


def test_under_wsgi_there_are_no_streams(row: Task, user: User) -> None:
    response = asked_by(user, watch_url(row), Accept="text/event-stream")
    assert response.status_code == 406
    assert "event streams need an asgi server" in response.content.decode().lower()


def test_the_fragment_renews_itself_until_the_end(row: Task, user: User) -> None:
    url = watch_url(row)
    waiting = asked_by(user, url, "?format=html").content.decode()
    assert f'data-watch="{url}" hx-get="{url}"' in waiting
    assert "<progress" in waiting
    run_queued()
    ended = asked_by(user, url, "?format=html").content.decode()
    assert "Done." in ended
    assert "hx-get" not in ended


def test_a_project_replaces_the_fragment(row: Task, user: User, settings: Any) -> None:
    own = {"bgtasks/watch.html": "my own: {{ task.state }}"}
    loaders = [("django.template.loaders.locmem.Loader", own)]
    options = settings.TEMPLATES[0]["OPTIONS"] | {"loaders": loaders}
    settings.TEMPLATES = [settings.TEMPLATES[0] | {"APP_DIRS": False, "OPTIONS": options}]
    assert asked_by(user, watch_url(row), "?format=html").content == b"my own: waiting"


@pytest.mark.parametrize("given", ["row", "id", "text", "result"])
def test_an_address_is_made_of_a_result_a_row_or_an_id(row: Task, given: str) -> None:
    task = {"row": row, "id": row.pk, "text": str(row.pk), "result": AsyncResult(row.pk)}[given]
    template = Template("{% load bgtasks %}{% watch_url task %}")
    assert template.render(Context({"task": task})) == watch_url(row)


def test_without_our_urls_an_address_says_what_to_add(row: Task) -> None:
    with (
        override_settings(ROOT_URLCONF="signup.urls"),
        pytest.raises(ImproperlyConfigured, match=r'include\("bgtasks.watch.urls"\)'),
    ):
        watch_url(row)
