"""Who enqueued a row."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.models import Task
from django.db.models.signals import post_save

from bgtasks import exceptions
from signup.tasks import discard_files as task

pytestmark = pytest.mark.django_db(transaction=True)


def test_creators_are_prefetched_as_ever(django_user_model: Any) -> None:
    users = [django_user_model.objects.create_user(name) for name in ("zoe", "mia")]
    Task.objects.all().delete()  # their welcome mails
    for user in users:
        task(["a"], creator=user)
    found = Task.objects.order_by("pk").prefetch_related("creator")
    assert [row.creator for row in found] == users


@pytest.mark.parametrize("heard", [False, True])
def test_many_rows_have_a_creator_with_any_key(django_user_model: Any, heard: bool) -> None:
    user = django_user_model.objects.create_user("zoe", pk=2**40)
    Task.objects.all().delete()  # the welcome mail
    receiver = [lambda **_: None] if heard else []
    for each in receiver:
        post_save.connect(each, sender=Task)
    try:
        made = task.map([["a"], ["b"]], creator=user)
    finally:
        for each in receiver:
            post_save.disconnect(each, sender=Task)
    rows = Task.objects.filter(pk__in=[row.pk for row in made])
    assert [row.creator for row in rows] == [user] * 2
    assert Task.objects.created_by(user).count() == 2


def test_a_creator_that_is_not_saved_is_refused(django_user_model: Any) -> None:
    with pytest.raises(exceptions.InvalidOption, match="not saved"):
        task(["a"], creator=django_user_model())
    assert not Task.objects.exists()
