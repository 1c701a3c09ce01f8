"""Arguments and results as JSON, with a few types that JSON itself does not know.

Plain JSON is written as upstream writes it, so that the ``task_hash`` of a call stays the same.
A date, a time, a timedelta, a Decimal or a UUID is written as an object with a tag, and read back
as what it was. Of a time zone only the offset is kept. A lazy translation is written as the text
that it is in the language that is active.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Model
from django.utils.functional import Promise

TAG = "__bgtasks__"

_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: ("Decimal", str),
    UUID: ("UUID", str),
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda value: timedelta(*value),
    "Decimal": Decimal,
    "UUID": UUID,
}


def dumps(value: Any) -> str:
    """Write a value as JSON.

    Raises:
        TypeError: it has a part that cannot be written; the text names the part's type.
        ValueError: it contains itself, or the tag that marks our own types.
        RecursionError: it is nested too deeply.
    """
    # An integer, a count or a key, is the most common result, and the encoder is slow.
    if type(value) is int:
        return str(value)
    text = _encoder.encode(value)
    if TAG in text:
        _refuse_strange_tags(value, text)
    return text


def _refuse_strange_tags(value: Any, text: str) -> None:
    """Refuse a value with a tag that we have not written: it would be read as another value."""
    tags = 0

    def default(part: Any) -> Any:
        nonlocal tags
        written = _plain(part)
        tags += isinstance(written, dict)
        return written

    json.dumps(value, default=default)
    if text.count(f'"{TAG}"') != tags:
        raise ValueError(f"the text {TAG!r} in it is reserved")


def _plain(part: Any) -> dict[str, Any] | str:
    """A part that JSON does not know as one that it knows: with a tag, or a lazy text as its text.

    Raises:
        TypeError: it cannot be written.
    """
    if isinstance(part, Promise):
        try:
            return str(part)
        except Exception as error:
            raise TypeError(f"a lazy text of it raises {type(error).__name__}: {error}") from error
    return _tagged(part)


def _tagged(part: Any) -> dict[str, Any]:
    for type_ in type(part).__mro__:
        if type_ in _WRITERS:
            name, write = _WRITERS[type_]
            return {TAG: name, "value": write(part)}
    advice = "; pass its primary key" if isinstance(part, Model) else ""
    raise TypeError(f"Object of type {type(part).__name__} is not JSON serializable{advice}")


# The encoder is made once: `json.dumps` makes a new one for each call with options.
_encoder = json.JSONEncoder(sort_keys=True, default=_plain)


def loads(text: str) -> Any:
    """Read what `dumps` wrote.

    Raises:
        ValueError: the text is not JSON, or nested too deeply, or a tagged value in it cannot be
            read. Nothing else is raised, whatever somebody has written into a table.
    """
    try:
        return json.loads(text, object_hook=_untagged) if TAG in text else json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except TypeError as error:  # on SQLite, a column of text may hold a number or bytes
        raise ValueError(f"it is no text: {error}") from None


def load_call(text: str) -> tuple[Any, dict[str, Any]]:
    """Read the arguments of a call, ``args`` and ``kwargs``, from the text that a row keeps.

    Raises:
        ValueError: the text is not a list of a list and a dict.
    """
    found = loads(text)
    if type(found) is list and len(found) == 2:
        args, kwargs = found
        if type(args) is list and type(kwargs) is dict:
            return args, kwargs
    raise ValueError("it is not a list of a list and a dict")


def _untagged(found: dict[str, Any]) -> Any:
    if found.keys() != {TAG, "value"}:
        return found
    tag, value = found[TAG], found["value"]
    if not isinstance(tag, str):
        raise ValueError(f"the tag {tag!r:.100} is no text")
    if tag not in _READERS:
        return found
    try:
        return _READERS[tag](value)
    # A reader is a constructor, which raises what it likes for a value of another type.
    except Exception as error:
        raise ValueError(f"{tag} {value!r:.100}: {error}") from None
