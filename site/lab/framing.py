"""Which other servers of the lab a page may talk to: the site's policy forbids all."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from csp.constants import SELF
from csp.decorators import csp_replace
from django.http import HttpResponseBase

Response = TypeVar("Response", bound=HttpResponseBase)


def framed(response: Response, origin: str) -> Response:
    """Let a page of ``origin`` show this answer in a frame."""

    # What the decorator xframe_options_exempt sets.
    response.xframe_options_exempt = True  # type: ignore[attr-defined]
    return _with_policy(response, {"frame-ancestors": [SELF, origin] if origin else [SELF]})


def talks_to(response: Response, origin: str) -> Response:
    """Let this page send forms to ``origin``, and show what it answers in a frame."""
    sources = [SELF, origin] if origin else [SELF]
    return _with_policy(response, {"form-action": sources, "frame-src": sources})


def _with_policy(response: Response, replaced: dict[str, list[str]]) -> Response:
    # The decorator is what django-csp offers, and here the sources are known in the view only.
    given: Any = csp_replace(replaced)(lambda _request: response)
    return cast("Response", given(None))
