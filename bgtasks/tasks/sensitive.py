"""Arguments whose values are shown to nobody: ``@background(sensitive=["token"])``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter, signature
from itertools import chain, repeat
from typing import Any

from bgtasks.exceptions import InvalidOption
from bgtasks.tasks import policies, registry

MASK = "•••"
# A value with fewer characters is not looked for in other texts, for it would be found anywhere.
SHORTEST = 4
_WITH_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class _Masked(str):
    """The mask, also as it would be written in Python: without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def check(name: str, sensitive: Any, function: Any) -> None:
    """Refuse names that are no arguments of a task.

    Raises:
        InvalidOption: it is such a one, or no list of names.
    """
    if isinstance(sensitive, str) or not all(isinstance(each, str) for each in sensitive):
        raise InvalidOption(
            f"sensitive of task {name} is {sensitive!r}: give a list of the names of arguments."
        )
    parameters = signature(function).parameters.values() if sensitive else ()
    known = [each.name for each in parameters]
    if any(each.kind is Parameter.VAR_KEYWORD for each in parameters):
        return
    if unknown := [each for each in sensitive if each not in known]:
        raise InvalidOption(
            f"sensitive of task {name} names {', '.join(unknown)}, and its function has the "
            f"arguments {', '.join(known) or '(none)'}."
        )


def masked(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call, with a mask in the place of each sensitive value.

    Those of a task that this process does not know are returned as they are.

    Args:
        name: the task's.
    """
    hidden = set(policies.of(name).sensitive)
    if not hidden:
        return list(args), dict(kwargs)
    mask = _Masked(MASK)
    places = zip(args, _names(name, hidden), strict=False)
    return (
        [mask if place in hidden else value for value, place in places],
        {key: mask if key in hidden else value for key, value in kwargs.items()},
    )


def names() -> list[str]:
    """The names of the tasks, of those that this process knows, that have sensitive arguments."""
    return [name for name in sorted(registry.names()) if policies.of(name).sensitive]


def hide(text: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A text, with a mask in the place of each sensitive value of a call that is in it.

    Args:
        text: a traceback, for example.
        name: the task's.
    """
    shown, named = masked(name, args, kwargs)
    pairs = [*zip(args, shown, strict=True), *((kwargs[key], named[key]) for key in kwargs)]
    found = {each for value, mask in pairs if isinstance(mask, _Masked) for each in _texts(value)}
    for value in sorted(found, key=len, reverse=True):
        text = text.replace(value, MASK)
    return text


def _texts(value: Any) -> Iterator[str]:
    """How a value, and the parts of a list or a dict, may be written in a text."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
        return
    text = str(value)
    if len(text) >= SHORTEST and not isinstance(value, bool):
        for written in (text, repr(text)[1:-1]):
            yield from (written, json.dumps(written)[1:-1])


def _names(name: str, hidden: set[str]) -> Iterator[str]:
    """The names of positional arguments. Of one that has none, it is a sensitive one.

    A function that takes ``*args`` may pass on to another what only that has a name for.
    """
    parameters = signature(registry.find(name).task_function).parameters.values()
    named = [each.name for each in parameters if each.kind in _WITH_PLACE]
    return chain(named, repeat(next(iter(hidden))))
