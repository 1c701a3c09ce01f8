"""The receivers of signals: what must be done whoever has written or deleted a row."""

from __future__ import annotations

import json
from typing import Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from bgtasks.models import CompletedTask
from bgtasks.signals import task_failed
from signup import files, tasks
from signup.models import Avatar, Report, User, Work


@receiver(post_save, sender=User)
def welcome(instance: User, created: bool, raw: bool, **kwargs: Any) -> None:
    # raw: a fixture is being loaded. The people in it have had their mail when they signed up.
    if created and not raw:
        instance.welcome_id = tasks.send_welcome_email(instance.pk, creator=instance).pk
        User.objects.filter(pk=instance.pk).update(welcome_id=instance.welcome_id)


@receiver(post_delete, sender=Avatar)
@receiver(post_delete, sender=Report)
def discard_files(instance: Work, **kwargs: Any) -> None:
    # A task deletes the files. Its row is written in the same transaction, so that the files stay
    # if the deletion is rolled back.
    tasks.discard_files(files.names_of(instance))


@receiver(task_failed)
def give_up_work(completed_task: CompletedTask, **kwargs: Any) -> None:
    """When a task has failed for good, set its work to failed, for the page of who waits for it."""
    models: dict[str, type[Work]] = {
        tasks.make_renditions.name: Avatar,
        tasks.build_report.name: Report,
    }
    if model := models.get(completed_task.task_name):
        try:
            (key,), _ = json.loads(completed_task.task_params)
        except (ValueError, TypeError, RecursionError):  # somebody has changed the row by hand
            return
        for work in model._default_manager.filter(pk=key):
            if work.give_up("This did not work out, and we stopped trying. Please try again."):
                tasks.discard_files(files.names_of(work))
