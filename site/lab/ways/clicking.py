"""What a click waits for: the next paint, and neither the network nor the server."""

from __future__ import annotations

from django.http import HttpResponse

from lab import sizes, work
from lab.answers import LabRequest, answer


def by_nothing(request: LabRequest) -> HttpResponse:
    return answer(request, "Neither your browser nor the server had anything to do.")


def by_the_server(request: LabRequest) -> HttpResponse:
    primes = work.count_primes(sizes.PRIMES_BELOW)
    return answer(request, f"The server has counted {primes} primes.")


def by_a_script(request: LabRequest) -> HttpResponse:
    return answer(request, "A script has kept your browser busy, and the server had nothing to do.")
