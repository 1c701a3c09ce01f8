"""Writes a signup in one transaction: the user, a picture if there is one, and the tasks."""

from __future__ import annotations

from uuid import UUID

from django.core.files import File
from django.db import IntegrityError, transaction

from signup import files
from signup.forms import SignupForm
from signup.models import Avatar, User
from signup.tasks import make_renditions


class UsernameTaken(Exception):
    """Somebody else took the name after the form had checked it and before the row was written."""


def register(form: SignupForm) -> User:
    """Save the user of a valid form, with the picture and all queued work, in one go.

    Raises:
        UsernameTaken: another signup was faster; nothing was saved.
    """
    # This hashes the password, which is slow. So it is done before the transaction begins, which
    # on SQLite blocks all other writers.
    user: User = form.save(commit=False)
    try:
        _save(user, form.cleaned_data["avatar"])
    except IntegrityError as error:
        if User.objects.named(user.username).exists():
            raise UsernameTaken from error
        raise
    return user


def _save(user: User, upload: File | None) -> None:
    if upload is None:
        user.save()
        return
    with files.uploaded(upload) as key, transaction.atomic():
        user.save()
        _queue_avatar(user, key)


def replace_avatar(user: User, upload: File) -> None:
    """Give the user a new picture, which replaces the old one as soon as it is made."""
    with files.uploaded(upload) as key, transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)  # one upload at a time
        replaced = user.avatars.all()
        if shown := user.picture:
            replaced = replaced.exclude(pk=shown.pk)
        replaced.delete()
        _queue_avatar(user, key)


def _queue_avatar(user: User, key: UUID) -> None:
    row = make_renditions(str(key), creator=user)
    Avatar.objects.create(pk=key, user=user, task_id=row.pk)
