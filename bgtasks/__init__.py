"""Background tasks for Django: ``from bgtasks import background``.

A function decorated with :func:`background` writes a row when it is called;
``manage.py process_tasks`` runs the row later. ``function.now(...)`` runs it here.

Task modules import from this package and from nowhere below it, so that the
engine can change while they do not.
"""

from collections.abc import Callable
from typing import Any

from background_task import background as _background

__all__ = ["background"]

background: Callable[..., Any] = _background
