"""The project with a replica, from which all rows are read.

It is a second name of the project's database, unless ``REPLICA_URL`` names another one.
"""

from tests.bgtasks.project.settings import *  # noqa: F403
from tests.bgtasks.project.settings import DATABASES, env

DATABASES["replica"] = {**DATABASES["default"], **env.db_url("REPLICA_URL", default="")}
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
