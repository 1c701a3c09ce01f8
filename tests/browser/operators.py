"""Operators of the site, and the tasks that they look at."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.harness.site import PASSWORD, LiveSite

BASE = "/admin/bgtasks/operations/"


def create(site: LiveSite, name: str, *tasks: str) -> str:
    """Create somebody who may do everything, tasks, and one that fails; returns the name.

    Args:
        tasks: statements that enqueue them; ``task`` is one.
    """
    site.shell(
        "from signup.models import User;"
        f"User.objects.create_superuser({name!r}, '{name}@example.com', {PASSWORD!r});"
        "from signup.tasks import discard_files as task; from bgtasks.models import Task;"
        f"{''.join(f'{each};' for each in tasks)}"
        "task(['kept'], schedule=3600, queue='a-queue-with-quite-a-long-name');"
        "row = task(['broken'], schedule=3600);"
        # After so many attempts it is tried again in eighteen hours, so no attempt of it runs
        # while a test acts on it.
        "Task.objects.filter(pk=row.pk)"
        ".update(task_params='[[7], {}]', run_at='2020-01-01', attempts=15)"
    )
    site.worker.wait_for("failed, and is tried again")
    return name


def enter(page: Page, site: LiveSite, name: str, path: str, heading: str) -> Page:
    """Log in, and come to one of the admin's pages."""
    page.goto(f"{site.url}{BASE}{path}")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    return page
