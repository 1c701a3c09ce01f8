"""A view needs the answer of another service, which takes a second."""

from __future__ import annotations

from django.http import HttpResponse

from lab import work
from lab.answers import LabRequest, answer


def in_a_sync_view(request: LabRequest) -> HttpResponse:
    said = work.call(request.stage.api_url)
    return answer(request, f"The service has said: {said}.")


async def in_an_async_view(request: LabRequest) -> HttpResponse:
    said = await work.acall(request.stage.api_url)
    return answer(request, f"The service has said: {said}.")
