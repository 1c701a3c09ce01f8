"""huey on SQLite: a consumer with one thread, as by default."""

from __future__ import annotations

from bench.systems.base import Peer


class Huey(Peer):
    name = "huey, SQLite"
    package = "huey"
    modules = ("huey",)
    application = "bench.apps.huey_app"
    command = ("huey.bin.huey_consumer", f"{application}.huey", "--quiet")
    promise = (
        "Removed from the queue before the run, so that a killed worker loses what it runs. No "
        "outcome is recorded."
    )

    def own_environment(self) -> dict[str, str]:
        return {"BENCH_FILE": str(self.place / "huey.db")}
