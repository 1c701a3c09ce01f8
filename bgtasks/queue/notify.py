"""Telling who waits on PostgreSQL: idle workers that there is work, others that it is done."""

from __future__ import annotations

import time
from collections.abc import Sequence

from django.db import transaction

from bgtasks.queue import database as db

CHANNEL = "bgtasks"
# What has ended; the ids, separated by commas, or nothing if they were too many.
ENDED_CHANNEL = "bgtasks_ended"
# SQL that tells of the ids that a query gives; a notification holds less than 8,000 bytes.
NOTIFY_ENDED = (
    f"SELECT pg_notify('{ENDED_CHANNEL}', CASE WHEN length(ids) < 8000 THEN ids ELSE '' END) "
    "FROM (SELECT string_agg(id::text, ',') AS ids FROM ({}) AS ended) AS listed"
)
# A notification takes a lock at commit that all of a server's databases share: one process sends
# one in this many seconds at most. Whoever was woken goes on looking for as long (`keeper`).
DEBOUNCE = 0.05

_last_sent: dict[str, float] = {}


def notify_workers() -> None:
    """Wake idle workers once the current transaction is committed."""
    if db.on_postgresql():
        transaction.on_commit(_send, using=db.alias(), robust=True)


def _send() -> None:
    now, alias = time.monotonic(), db.alias()
    if now - _last_sent.get(alias, -DEBOUNCE) < DEBOUNCE:
        return
    _last_sent[alias] = now
    db.execute(f"NOTIFY {CHANNEL}")


def notify_waiters(ids: Sequence[int]) -> None:
    """Tell who waits for results, once the current transaction is committed."""
    if ids and db.on_postgresql():
        db.fetch(NOTIFY_ENDED.format("SELECT unnest(%s::bigint[]) AS id"), [list(ids)])
