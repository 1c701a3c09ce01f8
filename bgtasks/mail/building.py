"""A message built as Django's SMTP backend asks for it, in each version of Django."""

from __future__ import annotations

import email.policy
from collections.abc import Callable
from inspect import signature
from typing import Any

import django
from django.core.mail import EmailMessage


def built_for_smtp(message: EmailMessage) -> Any:
    """The message as Django's SMTP backend asks for it."""
    if django.VERSION >= (6,) and _takes_policy(message.message):
        return message.message(policy=email.policy.SMTP)
    return message.message()


def _takes_policy(build: Callable[..., Any]) -> bool:
    """Not the method of a subclass that was written before there was one."""
    try:
        signature(build).bind(policy=None)
    except TypeError:
        return False
    return True


def bytes_for_smtp(built: Any) -> bytes:
    if django.VERSION >= (6,):
        return bytes(built.as_bytes())
    return bytes(built.as_bytes(linesep="\r\n"))
