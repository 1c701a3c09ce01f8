"""django-background-tasks with the engine that it comes with."""

from bench.systems.tables import Tables


class Stock(Tables):
    name = "django-background-tasks, PostgreSQL"
    package = "django-background-tasks"
    kind = "postgresql"
    engine = "background_task"
    command = ("django", "process_tasks")
    limit = "plain SQL, PostgreSQL"
    most = 200
    promise = (
        "A killed worker's task runs again after an hour; a finish is not fenced, nor one "
        "transaction."
    )
