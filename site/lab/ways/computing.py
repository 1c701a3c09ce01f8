"""A view computes for a second."""

from __future__ import annotations

import asyncio

from django.http import HttpResponse

from lab import sizes, tasks, work
from lab.answers import LabRequest, answer


def in_a_sync_view(request: LabRequest) -> HttpResponse:
    primes = work.count_primes(sizes.PRIMES_BELOW)
    return answer(request, f"There are {primes} primes.")


async def in_an_async_view(request: LabRequest) -> HttpResponse:
    primes = work.count_primes(sizes.PRIMES_BELOW)  # nothing else runs in this process meanwhile
    return answer(request, f"There are {primes} primes.")


async def in_a_thread(request: LabRequest) -> HttpResponse:
    primes = await asyncio.to_thread(work.count_primes, sizes.PRIMES_BELOW)
    return answer(request, f"There are {primes} primes.")


async def in_the_background(request: LabRequest) -> HttpResponse:
    task = await tasks.count_primes.adelay(sizes.PRIMES_BELOW)
    return answer(request, "The primes will be counted in a moment.", task)
