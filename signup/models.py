"""The people who signed up, and the rows that show how far the work for them has come."""

from __future__ import annotations

import uuid
from datetime import timedelta
from enum import StrEnum
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as AuthUserManager
from django.db import models, transaction
from django.db.models.functions import Lower
from django.db.models.lookups import Exact
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from bgtasks import AsyncResult
from bgtasks.exceptions import UnknownResult
from bgtasks.results import STARTED
from signup.validators import no_invisible_letters

EXPECTED = timedelta(seconds=20)
USERNAME_TAKEN = "A user with that username already exists."


class UserManager(AuthUserManager["User"]):
    use_in_migrations = False

    def named(self, username: str) -> models.QuerySet[User]:
        """The user with this name, in upper or lower case (on SQLite: of ASCII letters), if any.

        The condition is the expression of the constraint's index, so that the index is used.
        ``__iexact`` would read every user.
        """
        return self.filter(Exact(Lower("username"), Lower(models.Value(username))))

    def get_by_natural_key(self, username: str | None) -> User:
        """The user whom ``username`` names at the login."""
        return self.named(username or "").get()


class Mail(StrEnum):
    """What became of a mail, in words for its recipient."""

    PENDING = "on its way"
    RETRYING = "not sent yet: the mail server did not take it, and we try again"
    SENT = "sent"
    FAILED = "could not be sent"
    UNKNOWN = ""  # its outcome was pruned, or there was no mail to send

    @property
    def pending(self) -> bool:
        return self in {Mail.PENDING, Mail.RETRYING}


class User(AbstractUser):
    objects = UserManager()  # type: ignore[misc]

    # As Django has it, with one validator more. It holds for the signup, the admin and the shell's
    # `createsuperuser`.
    username = models.CharField(
        _("username"),
        max_length=150,
        unique=True,
        help_text=_("Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only."),
        validators=[AbstractUser.username_validator, no_invisible_letters],
        error_messages={"unique": USERNAME_TAKEN},
    )
    welcome_id = models.BigIntegerField(null=True, editable=False, help_text="Of its task.")

    class Meta(AbstractUser.Meta):
        constraints = [
            # Somebody named "Alice" could be taken for "alice". The database refuses that also
            # for two signups at the same moment.
            models.UniqueConstraint(
                Lower("username"),
                name="signup_user_username_ci",
                violation_error_message=USERNAME_TAKEN,
            ),
        ]

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save together with all that ``post_save`` receivers write.

        Without a transaction, Django would commit the row before it sends the signal. Within
        this one, the user and the queued welcome mail are written together or not at all, also
        from a shell or a script.
        """
        with transaction.atomic(using=kwargs.get("using"), savepoint=False):
            super().save(*args, **kwargs)

    @property
    def avatar(self) -> Avatar | None:
        """The latest upload, whatever became of it; None if there is none."""
        return self.avatars.first()

    @property
    def picture(self) -> Avatar | None:
        """The latest upload whose pictures are made: it is shown while a newer one is pending."""
        return self.avatars.filter(state=Work.State.READY).first()

    @property
    def welcome(self) -> Mail:
        """What became of the welcome mail."""
        result = AsyncResult(self.welcome_id or 0)
        try:
            if not result.ready():
                return Mail.RETRYING if _has_failed_once(result) else Mail.PENDING
            if result.failed():
                return Mail.FAILED
            return Mail.SENT if result.result == "Sent" else Mail.UNKNOWN
        except UnknownResult:
            return Mail.UNKNOWN


def _has_failed_once(result: AsyncResult) -> bool:
    """Whether a task that has not ended was tried in vain."""
    # The run under way is counted too.
    return result.attempts > (result.status == STARTED)


class Work(models.Model):
    """Something that is made in the background, with its state."""

    class State(models.TextChoices):
        PENDING = "pending"
        READY = "ready"
        FAILED = "failed"

    # Random, because the files made are named after it: nobody can guess their address.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    task_id = models.BigIntegerField(null=True, editable=False)
    error = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        abstract = True

    @property
    def pending(self) -> bool:
        return self.state == self.State.PENDING

    @property
    def percent(self) -> int:
        """How far the work has come, in percent, as the task has reported it."""
        if not self.pending:
            return 100
        progress = AsyncResult(self.task_id).progress if self.task_id else None
        return (progress.percent if progress else None) or 0

    @property
    def late(self) -> bool:
        """Whether the work takes longer than `EXPECTED`."""
        return self.pending and timezone.now() - self.created_at > EXPECTED

    @property
    def ready(self) -> bool:
        return self.state == self.State.READY

    @property
    def failed(self) -> bool:
        return self.state == self.State.FAILED

    def note(self, **fields: Any) -> bool:
        """Set fields of a pending row. Returns False, and writes nothing, if it is not pending."""
        return self._update(**fields)

    def finish(self, **fields: Any) -> bool:
        """Set a pending row to ready. Returns False, and writes nothing, if it is not pending."""
        return self._update(state=self.State.READY, **fields)

    def give_up(self, error: str) -> bool:
        """Set a pending row to failed. Returns False, and writes nothing, if it is not pending.

        Args:
            error: a text for the person who waits.
        """
        return self._update(state=self.State.FAILED, error=error)

    def _update(self, **fields: Any) -> bool:
        # This is an UPDATE and not save(), which would insert the row again if it was deleted
        # while the work went on.
        rows = type(self)._default_manager.filter(pk=self.pk, state=self.State.PENDING)
        return bool(rows.update(**fields))


class Avatar(Work):
    """One upload. A new picture is a new row, so its addresses are never reused.

    The row of the picture before stays until the new one is made.
    """

    SIZES = (64, 256, 512)

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="avatars")

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"avatar of {self.user}"

    def take_over(self) -> bool:
        """Set this pending row to ready, and delete the picture that it replaces.

        Returns False, and changes nothing, if it is not pending.
        """
        with transaction.atomic():
            if not self.finish():
                return False
            older = Avatar.objects.filter(user=self.user_id, created_at__lte=self.created_at)
            older.exclude(pk=self.pk).delete()
        return True

    def url(self, size: int) -> str:
        return reverse("picture", args=[self.pk, size])

    @property
    def urls(self) -> dict[str, str]:
        """Addresses by size, named for templates: ``avatar.urls.px256``."""
        return {f"px{size}": self.url(size) for size in self.SIZES}


class Report(Work):
    """The signups of some days, as a spreadsheet."""

    created_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="reports")
    start = models.DateField("from")
    end = models.DateField("to", help_text="Both days are included.")
    signups = models.PositiveIntegerField(null=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"signups from {self.start} to {self.end}"
