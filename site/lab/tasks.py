"""The tasks of the lab, in a queue of their own, which the lab's worker serves."""

from __future__ import annotations

from bgtasks import background
from lab import work

QUEUE = "lab"
# Seconds. A run is given up after a minute, and then nobody waits for its work any more.
TIMEOUT = 60


@background(queue=QUEUE, timeout=TIMEOUT, max_attempts=1)
def resize(picture: str) -> int:
    return work.resize(picture)


@background(queue=QUEUE, timeout=TIMEOUT, max_attempts=1)
def send_mail(port: int) -> None:
    work.send_mail(port)


@background(queue=QUEUE, timeout=TIMEOUT, max_attempts=1)
def build_report() -> int:
    return work.build_report()


@background(queue=QUEUE, timeout=TIMEOUT, max_attempts=1)
def count_primes(below: int) -> int:
    return work.count_primes(below)


@background(queue=QUEUE, timeout=TIMEOUT, max_attempts=1)
def count_words(folder: str) -> int:
    return sum(len(work.words_of(path.read_text())) for path in work.files_in(folder))


@background(queue=QUEUE, timeout=TIMEOUT, max_attempts=1)
def call(api: str) -> str:
    return work.call(api)


@background(queue=QUEUE, timeout=TIMEOUT, max_attempts=1)
async def acall(api: str) -> str:
    return await work.acall(api)
