"""The admin's own pages of single tables: tasks, completed tasks, attempts, outcomes and workers.

The pages of tasks and completed tasks are those of django-background-tasks, with its two actions
mended and with fewer permissions. The other pages show our own tables and change nothing. They stay
where they were, for links and for classes of a project that are derived from them, but whoever sees
the entry "Background tasks" in the index does not see these beside it.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from background_task.admin import CompletedTaskAdmin, TaskAdmin
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import DataError, transaction
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy

from bgtasks.models import Attempt, CompletedTask, Operations, Outcome, Task, Worker
from bgtasks.patches.table import Patch
from bgtasks.queue import acting, claims
from bgtasks.queue import database as db


@admin.action(description="priority += 1")
def inc_priority(modeladmin: Any, request: Any, queryset: Any) -> None:
    """Raise the priority of the chosen rows by one, from what the database has at that moment."""
    claims.change_priority(queryset, 1)


@admin.action(description="priority -= 1")
def dec_priority(modeladmin: Any, request: Any, queryset: Any) -> None:
    """Lower the priority of the chosen rows by one, from what the database has at that moment."""
    claims.change_priority(queryset, -1)


# The fields of a row that may be changed: they say when it runs and who runs it, not what runs.
CHANGEABLE = {"priority", "queue", "repeat", "repeat_until", "run_at", "verbose_name"}


def readonly_fields(self: Any, request: Any, obj: Any = None) -> list[str]:
    """All fields but those of `CHANGEABLE`, and those that the project's own class names.

    If the name or the arguments could be changed, whoever has the permission to change rows could
    run any task with any arguments.
    """
    ours = [field.name for field in self.opts.fields if field.name not in CHANGEABLE]
    theirs = super(TaskAdmin, self).get_readonly_fields(request, obj)
    return [*ours, *(name for name in theirs if name not in ours)]


def nobody(self: Any, request: Any, obj: Any = None) -> bool:
    """A permission that nobody has: calls write the rows, and workers the completed ones."""
    return False


@admin.display(description="error")
def error(row: Any) -> str:
    """Whether a row has an error, as a word: Django's icon for True is a green tick."""
    return "yes" if row.has_error() else ""


# How many rows that cannot be read a message names.
NAMED = 20
# What fetching a row raises if somebody has written into it what Python cannot hold.
UNREADABLE = (ValueError, TypeError, AttributeError, ArithmeticError, DataError)


def without_odd_rows(cls: type[admin.ModelAdmin], name: str) -> Any:
    """A view of an admin, which names the rows that cannot be read and shows the others.

    They are looked for only if the view fails, for that takes long in a large table.

    Args:
        cls: the class that gets the view. What comes after it in the order of the classes of an
            admin is called: there may be a project's mixins.
        name: of the view's method.
    """

    def view(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        original = getattr(super(cls, self), name)
        saved = transaction.atomic if db.connection().in_atomic_block else nullcontext
        try:
            with saved():
                return original(request, *args, **kwargs)
        except UNREADABLE:
            if request.method != "GET" or not (found := db.odd_ids(self.model, NAMED)):
                raise
            text = (
                "These rows have a date that cannot be read, and are not shown: "
                f"{', '.join(map(str, found))}. Correct it by SQL in the table "
                f"{self.model._meta.db_table}, or delete them."
            )
            self.message_user(request, text, messages.ERROR, fail_silently=True)
            request.bgtasks_without_odd_rows = True
            return original(request, *args, **kwargs)

    return view


def shown_rows(cls: type[admin.ModelAdmin]) -> Any:
    """A ``get_queryset`` without the rows that cannot be read, if `without_odd_rows` says so.

    Args:
        cls: the class that gets it; see `without_odd_rows`.
    """

    def get_queryset(self: Any, request: Any) -> Any:
        rows = super(cls, self).get_queryset(request)
        if getattr(request, "bgtasks_without_odd_rows", False):
            odd = db.has_odd_date(self.model)
            rows = rows.extra(where=[f"NOT COALESCE({odd}, 1 = 0)"])  # noqa: S610
        return rows

    return get_queryset


def names_odd_rows(cls: Any) -> Any:
    """A class decorator: the admin names the rows that cannot be read, and shows the others."""
    cls.get_queryset = shown_rows(cls)
    for name in ("changelist_view", "changeform_view"):
        setattr(cls, name, without_odd_rows(cls, name))
    return cls


def _lists_app(request: Any) -> bool:
    return bool(request.resolver_match and request.resolver_match.url_name == "app_list")


def _sees_entry(page: admin.ModelAdmin, request: Any) -> bool:
    site = page.admin_site
    if not site.is_registered(Operations):
        return False
    return site.get_model_admin(Operations).has_view_permission(request)


def hidden_from_index(cls: Any) -> Any:
    """A class decorator: whoever sees the entry "Background tasks" does not see this one as well.

    The list of the app alone has it, to which the page's own breadcrumbs lead. A class that a
    project has derived from this one and registered is shown as ever.
    """

    def get_model_perms(self: Any, request: Any) -> Any:
        if type(self) is cls and not _lists_app(request) and _sees_entry(self, request):
            return {}
        return super(cls, self).get_model_perms(request)

    cls.get_model_perms = get_model_perms
    return cls


for _admin in (TaskAdmin, CompletedTaskAdmin):
    hidden_from_index(_admin)
    names_odd_rows(_admin)
    _admin.list_display = [error if name == "has_error" else name for name in _admin.list_display]


@admin.action(
    permissions=["delete"], description=gettext_lazy("Cancel selected %(verbose_name_plural)s")
)
def delete_selected(page: Any, request: Any, chosen: Any) -> Any:
    """Cancel the chosen tasks, after a confirmation; what runs is left.

    It has the name of Django's own action, and so takes its place.
    """
    ids = list(chosen.values_list("pk", flat=True))
    if not request.POST.get("post"):
        across = request.POST.get("select_across") == "1"
        about = {
            "title": "Cancel tasks",
            "opts": page.opts,
            "count": len(ids),
            "across": across,
            # With all of them chosen, a form with a field for each might be too large to send.
            "ids": ids[:1] if across else ids,
        }
        context = {**page.admin_site.each_context(request), **about}
        return TemplateResponse(request, "bgtasks/admin/cancel_selected.html", context)
    done = acting.cancel(ids, request.user.get_username())
    page.message_user(request, f"Tasks cancelled: {len(done)}.", messages.SUCCESS)
    if left := len(ids) - len(done):
        text = f"Tasks left, for a worker has them or they have ended: {left}."
        page.message_user(request, text, messages.WARNING)
    return None


def delete_model(self: Any, request: Any, row: Any) -> None:
    """Cancel a task in the place of deleting its row, beneath which a worker may have begun it.

    Raises:
        PermissionDenied: a worker has it.
    """
    if not acting.cancel([row.pk], request.user.get_username()):
        raise PermissionDenied(f"A worker has task {row.pk}, or it has ended. Nothing was deleted.")


def delete_queryset(self: Any, request: Any, chosen: Any) -> None:
    """Cancel tasks in the place of deleting their rows; what runs is left."""
    acting.cancel(list(chosen.values_list("pk", flat=True)), request.user.get_username())


TABLE = [
    Patch(TaskAdmin, "actions", [inc_priority, dec_priority, delete_selected],
          "they wrote the priority that they had read, and deleted rows beneath their workers"),
    Patch(TaskAdmin, "delete_model", delete_model,
          "it deleted a row beneath the worker that runs it"),
    Patch(TaskAdmin, "delete_queryset", delete_queryset,
          "it deleted rows beneath the workers that run them"),
    Patch(TaskAdmin, "get_readonly_fields", readonly_fields,
          "whoever may change a row must not choose which function it runs"),
    Patch(TaskAdmin, "has_add_permission", nobody,
          "a row that is typed in may name any function and carry any arguments"),
    Patch(CompletedTaskAdmin, "has_add_permission", nobody, "what has ended is a record"),
    Patch(CompletedTaskAdmin, "has_change_permission", nobody, "what has ended is a record"),
]  # fmt: skip
for _patch in TABLE:
    _patch.install()


@names_odd_rows
class ReadOnlyAdmin(admin.ModelAdmin):
    """The admin of a table that only bgtasks itself writes."""

    def has_add_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return False


@admin.register(Worker)
@hidden_from_index
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("name", "host", "pid", "processes", "threads", "started_at", "heartbeat_at")


def _name(rows: Any, key: str) -> Subquery:
    """SQL for the task name of the row whose id stands in the column `key`."""
    return Subquery(rows.filter(pk=OuterRef(key)).values("task_name")[:1])


class TaskNameAdmin(ReadOnlyAdmin):
    """The admin of a table that has ids of tasks; it shows their names too.

    Attributes:
        name: SQL for the name of the task.
    """

    name: Any

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).annotate(_task_name=self.name)

    @admin.display(description="task")
    def task_name(self, row: Any) -> str:
        return row._task_name or ""

    @admin.display(description="all of the task")
    def whole(self, row: Any) -> str:
        """A link to the page with all that is known of the task."""
        try:
            site = self.admin_site.name
            url = reverse("admin:bgtasks_operations_change", args=[row.task_id], current_app=site)
        except NoReverseMatch:  # the project's site does not have those pages
            return ""
        return format_html('<a href="{}">task {}</a>', url, row.task_id)


@admin.register(Outcome)
@hidden_from_index
class OutcomeAdmin(TaskNameAdmin):
    name = _name(CompletedTask.objects, "completed_id")
    list_display = (
        "task_id",
        "task_name",
        "state",
        "attempts",
        "finished_at",
        "completed_id",
        "whole",
    )
    fields = (
        "task_id", "completed_id", "state", "attempts", "due_at", "started_at", "finished_at",
        "result", "exception", "whole",
    )  # fmt: skip
    list_filter = ("state",)
    search_fields = ("=task_id", "=completed_id")
    ordering = ("-finished_at",)


@admin.register(Attempt)
@hidden_from_index
class AttemptAdmin(TaskNameAdmin):
    name = Coalesce(
        _name(Task.objects, "task_id"),
        Subquery(
            Outcome.objects.filter(pk=OuterRef("task_id"))
            .annotate(_name=_name(CompletedTask.objects, "completed_id"))
            .values("_name")[:1]
        ),
    )
    list_display = ("task_id", "task_name", "number", "state", "ended_at", "claim", "whole")
    fields = ("task_id", "number", "state", "claim", "started_at", "ended_at", "whole", "story")

    @admin.display(description="error")
    def story(self, row: Attempt) -> str:
        return format_html("<pre>{}</pre>", row.error)  # <pre> keeps a traceback's indentation

    list_filter = ("state",)
    search_fields = ("=task_id", "error")
    ordering = ("-ended_at",)
