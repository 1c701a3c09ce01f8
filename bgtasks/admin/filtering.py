"""The filters of the list of tasks, as a form whose parameters are the address of the page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

from django import forms
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils import timezone

from bgtasks.operations.states import State
from bgtasks.operations.task_list import Filter
from bgtasks.queue.outcomes import LARGEST

# What stands for the tasks without a queue.
NO_QUEUE = "-"
PERIODS = {
    "hour": ("the last hour", timedelta(hours=1)),
    "day": ("the last 24 hours", timedelta(days=1)),
    "week": ("the last 7 days", timedelta(days=7)),
}
# Years for which every database has dates, whatever the time zone.
YEARS = range(1000, 9999)


def _text(**options: Any) -> forms.CharField:
    return forms.CharField(required=False, max_length=200, **options)


class FilterForm(forms.Form):
    """The filters. Its data are the parameters of a request; each may be missing."""

    q = _text(label="Search")
    state = forms.MultipleChoiceField(
        label="State", required=False, choices=[(state, state) for state in State]
    )
    name = _text(label="Name")
    queue = _text(label="Queue")
    error = _text(label="Error")
    worker = _text(label="Worker")
    creator = _text(label="Creator")
    within = forms.ChoiceField(
        label="Due within",
        required=False,
        choices=[("", "any time"), *((key, text) for key, (text, _) in PERIODS.items())],
    )
    since = forms.DateTimeField(label="Due since", required=False)
    until = forms.DateTimeField(label="Due before", required=False)
    before = forms.IntegerField(label="Page", required=False, min_value=0, max_value=LARGEST)

    def clean_since(self) -> datetime | None:
        return _sensible(self.cleaned_data["since"])

    def clean_until(self) -> datetime | None:
        return _sensible(self.cleaned_data["until"])

    def clean_creator(self) -> tuple[int, Any] | None:
        text = self.cleaned_data["creator"]
        return _creator(text) if text else None

    def wanted(self) -> Filter:
        """The filter that a valid form describes."""
        given = self.cleaned_data
        queue = given["queue"] or None
        after = given["since"]
        if given["within"]:
            begin = timezone.now() - PERIODS[given["within"]][1]
            after = max(after, begin) if after else begin
        return Filter(
            states=frozenset(map(State, given["state"])),
            name=given["name"] or None,
            queue="" if queue == NO_QUEUE else queue,
            worker=given["worker"] or None,
            error=given["error"] or None,
            search=given["q"] or None,
            creator=given["creator"],
            after=after,
            before=given["until"],
        )

    @property
    def is_narrow(self) -> bool:
        """Whether anything but the search and the states is filtered by."""
        return any(map(self.given, self.fields.keys() - {"q", "state", "before"}))

    @property
    def local_since(self) -> str:
        """The time as a browser's field for a time takes it; empty if there is none."""
        return self._local("since")

    @property
    def local_until(self) -> str:
        return self._local("until")

    def _local(self, name: str) -> str:
        moment = self.cleaned_data.get(name)
        if moment and timezone.is_aware(moment):
            moment = timezone.localtime(moment)
        return f"{moment:%Y-%m-%dT%H:%M:%S}" if moment else ""

    def given(self, name: str) -> list[str]:
        """The values of a parameter that are not empty."""
        return [value for value in cast(QueryDict, self.data).getlist(name) if value]

    def query(self, **other: Any) -> str:
        """The parameters that are not empty, without the page, as the text of an address.

        Args:
            other: parameters that take the place of those given; None removes one.
        """
        kept = QueryDict(mutable=True)
        for name in self.fields:
            if name != "before" and name not in other and (values := self.given(name)):
                kept.setlist(name, values)
        for name, value in other.items():
            if value is not None:
                kept[name] = str(value)
        return kept.urlencode()

    def frozen_query(self) -> str:
        """The parameters for an action that takes its time: with a time, and not "within"."""
        after = self.wanted().after
        return self.query(within=None, since=after and after.isoformat())

    def described(self) -> str:
        """The filters in words; empty if there are none."""
        return "; ".join(
            f"{str(field.label).lower()} {', '.join(values)}"
            for name, field in self.fields.items()
            if name != "before" and (values := self.given(name))
        )


def from_query(query: str) -> FilterForm:
    """The form of an address's parameters."""
    return FilterForm(QueryDict(query))


def _sensible(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.year not in YEARS:
        raise ValidationError(f"There are no tasks of the year {moment.year}.")
    return moment


def _creator(text: str) -> tuple[int, Any]:
    """The content type and the key of a creator, who is named by "app.model:key" or as a user.

    Raises:
        ValidationError: there is no such one.
    """
    label, colon, key = text.partition(":")
    try:
        model = apps.get_model(label) if colon else None
    except (LookupError, ValueError):
        model = None
    if model is not None:
        try:
            found = model._meta.pk.to_python(key)
        except ValidationError:
            raise ValidationError(f"{key} is no key of {label}.") from None
        return ContentType.objects.get_for_model(model).pk, found
    users = get_user_model()
    try:
        user = users._default_manager.get_by_natural_key(text)
    except users.DoesNotExist:
        raise ValidationError(
            f"There is no user {text}. For another creator write app.model:key, as in shop.order:7."
        ) from None
    return ContentType.objects.get_for_model(users).pk, user.pk


def creator_text(creator: Any) -> str:
    """A creator as the filter takes it."""
    return f"{creator._meta.label_lower}:{creator.pk}"
