"""procrastinate with its defaults."""

import os

from procrastinate import App, PsycopgConnector

from bench.ledger import note

app = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))


@app.task(name="noop")
def noop(number: int) -> None:
    note(number)


def fill(tasks: int) -> None:
    with app.open():
        app.schema_manager.apply_schema()
        noop.batch_defer(*({"number": number} for number in range(tasks)))
