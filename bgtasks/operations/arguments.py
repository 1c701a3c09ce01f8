"""The arguments of a task, as text for whoever looks at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bgtasks.serialize import codec
from bgtasks.tasks import policies, sensitive

# Characters of the arguments that a list shows.
SHORT = 80


def shown(name: str, params: str) -> str:
    """The arguments of a call, as they would be written in Python, sensitive values masked.

    Whatever shows arguments to somebody takes them from here.

    Args:
        name: the task's. If this process does not know the task, nothing is masked.
        params: the arguments as the row keeps them.

    Returns:
        The text of the row itself if that cannot be read.
    """
    try:
        args, kwargs = codec.load_call(params)
    except ValueError:
        return params
    return written(name, args, kwargs)


def written(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """What `shown` gives, of arguments that no row keeps."""
    args, kwargs = sensitive.masked(name, args, kwargs)
    named = (f"{key}={value!r}" for key, value in kwargs.items())
    return ", ".join([*map(repr, args), *named])


def hidden(text: str, name: str, params: str) -> str:
    """A text that a run has made, such as its traceback, without the sensitive values of its call.

    Args:
        name: the task's. If this process does not know the task, nothing is masked.
        params: the arguments as the row keeps them.
    """
    if not policies.of(name).sensitive:
        return text
    try:
        return sensitive.hide(text, name, *codec.load_call(params))
    except ValueError:
        return text


def as_json(name: str, params: str) -> str:
    """The arguments as the row keeps them, with sensitive values masked, for programs."""
    try:
        args, kwargs = codec.load_call(params)
    except ValueError:
        return params
    masked = sensitive.masked(name, args, kwargs)
    return params if masked == (args, kwargs) else codec.dumps(masked)


def shortened(text: str, most: int = SHORT) -> str:
    """The text, with an ellipsis in the place of what is more than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
