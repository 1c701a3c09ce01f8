"""A mail is sent by a mail server that takes a second."""

from __future__ import annotations

from django.http import HttpResponse

from lab import tasks, work
from lab.answers import LabRequest, answer


def in_the_view(request: LabRequest) -> HttpResponse:
    work.send_mail(request.stage.smtp_port)
    return answer(request, "Your mail has been sent.")


def in_the_background(request: LabRequest) -> HttpResponse:
    task = tasks.send_mail(request.stage.smtp_port)
    return answer(request, "Your mail will be sent in a moment.", task)
