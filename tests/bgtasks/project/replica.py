"""The project with a replica, from which all rows are read: a second name of its database."""

from tests.bgtasks.project.settings import *  # noqa: F403
from tests.bgtasks.project.settings import DATABASES

DATABASES["replica"] = DATABASES["default"].copy()
DATABASE_ROUTERS = ["tests.bgtasks.project.replica.ReplicaRouter"]


class ReplicaRouter:
    def db_for_read(self, model, **hints):
        return "replica"

    def db_for_write(self, model, **hints):
        return "default"

    def allow_relation(self, one, other, **hints):
        return True

    def allow_migrate(self, db, app_label, **hints):
        return db == "default"
