"""PostgreSQL's notifications: to idle workers of new rows, to who waits for a result of endings."""

from __future__ import annotations

import time
from collections.abc import Sequence

from django.db import transaction

from bgtasks.queue import database as db

CHANNEL = "bgtasks"
# A notification here carries the ids of tasks that have ended, separated by commas, or no text if
# the ids were too many for one: it can carry less than 8,000 bytes.
ENDED_CHANNEL = "bgtasks_ended"
# SQL that sends such a notification of the ids that a query gives.
NOTIFY_ENDED = (
    f"SELECT pg_notify('{ENDED_CHANNEL}', CASE WHEN length(ids) < 8000 THEN ids ELSE '' END) "
    "FROM (SELECT string_agg(id::text, ',') AS ids FROM ({}) AS ended) AS listed"
)
# A notification takes a lock at commit that all databases of a server share. So a process sends at
# most one in this many seconds, and a worker that was notified goes on claiming for as long (see
# `bgtasks.worker.keeper`).
DEBOUNCE = 0.05

_last_sent: dict[str, float] = {}


def notify_workers() -> None:
    """Notify idle workers of new rows once the current transaction is committed."""
    if db.on_postgresql():
        transaction.on_commit(_send, using=db.alias(), robust=True)


def _send() -> None:
    now, alias = time.monotonic(), db.alias()
    if now - _last_sent.get(alias, -DEBOUNCE) < DEBOUNCE:
        return
    _last_sent[alias] = now
    db.execute(f"NOTIFY {CHANNEL}")


def notify_waiters(ids: Sequence[int]) -> None:
    """Notify whoever waits for the results of these tasks when the current transaction commits."""
    if ids and db.on_postgresql():
        db.fetch(NOTIFY_ENDED.format("SELECT unnest(%s::bigint[]) AS id"), [list(ids)])
