"""The entry "Background tasks" in the index, its pages, and who may see them."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.admin import TaskAdmin
from django.contrib.admin import AdminSite
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import path

from bgtasks.admin.entry import OperationsAdmin
from bgtasks.models import Operations, Task
from config.urls import urlpatterns as site_urls
from tests.bgtasks.admin.helpers import BASE, add

pytestmark = pytest.mark.django_db

PAGES = ["", "tasks/", "workers/", "schedules/"]


@pytest.fixture
def staff_client(client: Client, django_user_model: Any) -> Client:
    """Of a staff member without any permission."""
    client.force_login(django_user_model.objects.create_user("clerk", is_staff=True))
    return client


@pytest.mark.parametrize("page", PAGES)
def test_every_page_leads_to_every_other(admin_client: Client, page: str) -> None:
    text = admin_client.get(BASE + page).content.decode()
    for other in PAGES:
        assert f'<a href="{BASE}{other}"{" aria-current=" if other == page else ">"}' in text


@pytest.mark.parametrize("page", PAGES)
def test_a_page_takes_few_statements_however_much_it_shows(
    admin_client: Client, page: str, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        add(number, number, repeat=3600)
    admin_client.get(BASE + page)  # Django keeps what it has read of permissions and types
    with django_assert_max_num_queries(20):
        admin_client.get(BASE + page)


@pytest.mark.parametrize("page", PAGES)
def test_whoever_may_not_view_is_refused(staff_client: Client, page: str) -> None:
    assert staff_client.get(BASE + page).status_code == 403
    assert staff_client.post(BASE + page).status_code in (403, 405)


@pytest.mark.parametrize("page", PAGES)
def test_whoever_is_not_logged_in_is_asked_to(client: Client, page: str) -> None:
    assert client.get(BASE + page).url.startswith("/admin/login/")  # type: ignore[attr-defined]


def test_the_index_has_one_entry(admin_client: Client) -> None:
    response = admin_client.get("/admin/")
    ours = [app for app in response.context["app_list"] if "task" in app["app_label"]]
    assert [[model["name"] for model in app["models"]] for app in ours] == [["Background tasks"]]
    assert ours[0]["models"][0]["admin_url"] == BASE


def test_whoever_may_not_see_the_entry_sees_the_single_tables(
    client: Client, django_user_model: Any
) -> None:
    user = django_user_model.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_task"]))
    client.force_login(user)
    names = [
        model["object_name"]
        for app in client.get("/admin/").context["app_list"]
        for model in app["models"]
    ]
    assert names == ["Task"]


def test_the_list_of_the_app_has_the_single_tables(admin_client: Client) -> None:
    for label in ("bgtasks", "background_task"):
        assert admin_client.get(f"/admin/{label}/").status_code == 200
    assert b"Completed tasks" in admin_client.get("/admin/background_task/").content


class Shop(AdminSite):
    """A project's own site, which has classes of its own."""

    def has_permission(self, request: Any) -> bool:
        return bool(request.user.is_active)


class Guarded(OperationsAdmin):
    """Nobody acts but the owner."""

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        return True

    def has_act_permission(self, request: Any) -> bool:
        return bool(request.user.username == "owner")


class MyTaskAdmin(TaskAdmin):
    """A page of upstream that the project has changed."""


shop = Shop(name="shop")
shop.register(Operations, Guarded)
shop.register(Task, MyTaskAdmin)
urlpatterns = [path("shop/", shop.urls), *site_urls]


@pytest.mark.urls(__name__)
def test_a_projects_own_site_and_permissions_hold(client: Client, django_user_model: Any) -> None:
    base = "/shop/bgtasks/operations/"
    for name, may_act in (("owner", True), ("clerk", False)):
        client.force_login(django_user_model.objects.create_user(name))
        Task.objects.all().delete()
        pk = add(1, 2).pk
        text = client.get(f"{base}tasks/").content.decode()
        assert f'href="{base}tasks/{pk}/"' in text
        assert ('name="action"' in text) is may_act
        response = client.post(f"{base}tasks/act/", {"action": "cancel", "id": pk})
        assert response.status_code == (200 if may_act else 403)
        assert client.get(f"{base}tasks/{pk}/").status_code == 200
    index = client.get("/shop/").content.decode()
    assert f'href="{base}"' in index
    assert 'href="/shop/background_task/task/"' not in index  # this user may not view tasks


@pytest.mark.urls(__name__)
def test_a_page_that_a_project_has_derived_stays_in_the_index(admin_client: Client) -> None:
    assert 'href="/shop/background_task/task/"' in admin_client.get("/shop/").content.decode()
