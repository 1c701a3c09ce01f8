"""What bench/drain.py compares."""

from __future__ import annotations

from bench.systems import celery_database, limit, ours
from bench.systems.base import Drained, System
from bench.systems.celery_rabbitmq import Celery
from bench.systems.huey_sqlite import Huey
from bench.systems.procrastinate_postgresql import Procrastinate
from bench.systems.stock import Stock
from bench.systems.vtasks_redis import VTasks

__all__ = ["ALL", "YARDSTICK", "Drained", "System"]

YARDSTICK = Celery.name
ALL: list[type[System]] = [
    ours.OnPostgreSQL,
    ours.ListenedOnPostgreSQL,
    ours.OnSQLite,
    ours.ListenedOnSQLite,
    Stock,
    Celery,
    celery_database.WithResults,
    celery_database.Engine,
    Procrastinate,
    Huey,
    VTasks,
    limit.OnPostgreSQL,
    limit.OnSQLite,
]
