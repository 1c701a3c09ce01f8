"""Builds a mail's MIME message as Django's SMTP backend does, in each version of Django."""

from __future__ import annotations

import email.policy
from collections.abc import Callable
from inspect import signature
from typing import Any

import django
from django.core.mail import EmailMessage


def built_for_smtp(message: EmailMessage) -> Any:
    """What ``message()`` gives Django's SMTP backend."""
    if django.VERSION >= (6,) and _takes_policy(message.message):
        return message.message(policy=email.policy.SMTP)
    return message.message()


def _takes_policy(build: Callable[..., Any]) -> bool:
    """Whether a ``message()`` method has the argument ``policy``, which came with Django 6.0.

    That of a subclass which was written for an older Django has not.
    """
    try:
        signature(build).bind(policy=None)
    except TypeError:
        return False
    return True


def bytes_for_smtp(built: Any) -> bytes:
    """The bytes of a message from `built_for_smtp`, with lines that end in CRLF."""
    if django.VERSION >= (6,):
        return bytes(built.as_bytes())
    return bytes(built.as_bytes(linesep="\r\n"))
