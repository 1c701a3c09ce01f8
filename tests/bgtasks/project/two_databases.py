"""The project with its task tables in a database of their own."""

from tests.bgtasks.project.settings import *  # noqa: F403
from tests.bgtasks.project.settings import DATABASES, env

DATABASES["queue"] = {**DATABASES["default"], **env.db_url("QUEUE_URL")}
DATABASE_ROUTERS = env.list("ROUTERS", default=["tests.bgtasks.project.two_databases.QueueRouter"])


class QueueRouter:
    """The router of docs/reference.md."""

    apps = frozenset({"background_task", "bgtasks"})

    def db_for_read(self, model, **hints):
        return "queue" if model._meta.app_label in self.apps else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return (db == "queue") == (app_label in self.apps)
