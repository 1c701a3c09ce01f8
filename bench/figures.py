"""The package's own figures, each beside what it must be and what it aims at.

    python bench/figures.py [--rounds 5] [--only NAME ...] [--small] [--json FILE]

Default settings and one process_tasks with default options, unless the figure says otherwise.
Every value is from databases of its own, on SQLite and, where it can be reached, on PostgreSQL
(TEST_POSTGRES_URL). Prints a Markdown table, each line as soon as it is measured; values are
medians over the rounds. How each is measured stands in bench/measures/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "site")]

import django  # noqa: E402

from bench.measures import latency, parallel, throughput  # noqa: E402
from bench.measures.rig import Bench, Skip  # noqa: E402
from bench.page import insert  # noqa: E402
from bench.versions import machine  # noqa: E402
from tests import settings  # noqa: E402
from tests.harness import needs  # noqa: E402
from tests.harness.deployment import deployments  # noqa: E402

SQLITE, POSTGRESQL = "sqlite", "postgresql"
HEAD = [
    "| figure | database | must | aim | median | min–max | rounds |",
    "|---|---|---:|---:|---:|---:|---:|",
]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        label: what is measured, and its unit.
        must: the worst that will do; None where the value is there to explain another.
        aim: what would be good.
        form: how values are written.
        postgresql_must: ``must``, where PostgreSQL's is another.
    """

    label: str
    must: float | None = None
    aim: float | None = None
    form: str = ".2f"
    postgresql_must: float | None = None

    def bound(self, database: str) -> float | None:
        special = self.postgresql_must if database == POSTGRESQL else None
        return self.must if special is None else special

    def write(self, value: float | None) -> str:
        return "" if value is None else format(value, self.form)


@dataclass(frozen=True)
class Figure:
    """What one function measures: its name for --only, and a row for each of its values."""

    name: str
    measure: Callable[[Bench], dict[str, float]]
    rows: dict[str, Row]
    databases: tuple[str, ...] = (SQLITE, POSTGRESQL)
    by_default: bool = True


ONE = (
    "@background, called",
    "@background, delay",
    "shared_task, delay",
    "async_task",
    "@task, enqueue",
)
TWO = ("unique", "expires")

FIGURES = [
    Figure(
        "backlog",
        throughput.backlog,
        {
            "ratio": Row("drain with 200,000 rows waiting / with 20,000", 0.9, 1.0),
            "few": Row("tasks/s with 20,000 rows waiting", form=",.0f"),
            "many": Row("tasks/s with 200,000 rows waiting", form=",.0f"),
        },
    ),
    Figure(
        "million",
        throughput.million,
        {
            "ratio": Row("drain with 1,000,000 rows waiting / with 20,000", 0.9, 1.0),
            "many": Row("tasks/s with 1,000,000 rows waiting", form=",.0f"),
        },
        by_default=False,
    ),
    Figure(
        "snapshot",
        throughput.snapshot,
        {
            "ratio": Row("drain of 100,000 beside an old snapshot / without", 0.6, 0.9),
            "without": Row("tasks/s without the snapshot", form=",.0f"),
        },
        databases=(POSTGRESQL,),
    ),
    Figure(
        "results",
        throughput.results,
        {
            "ratio": Row("drain with results kept / without, a number each", 0.9),
            "stored": Row("tasks/s with a number kept of each", form=",.0f"),
            "entries": Row("drain with results kept / without, 80 bytes each"),
        },
    ),
    Figure(
        "enqueue",
        latency.enqueue,
        {
            "p95": Row("enqueuing during a drain, p95, ms", 20, 5, ".1f"),
            "max": Row("enqueuing during a drain, longest, ms", 250, 50, ".1f"),
        },
    ),
    Figure(
        "pickup",
        latency.pickup,
        {
            "p50": Row("call to start in an idle worker, p50, ms", None, None, ".1f"),
            "p95": Row("call to start in an idle worker, p95, ms", 20, 5, ".1f", 10),
        },
    ),
    Figure(
        "roundtrip",
        latency.roundtrip,
        {
            "p50": Row("add.delay(4, 5).get(), idle worker, p50, ms", None, None, ".1f"),
            "p95": Row("add.delay(4, 5).get(), idle worker, p95, ms", 30, None, ".1f", 15),
        },
    ),
    Figure(
        "idle", latency.idle, {"percent": Row("processor time of an idle worker, %", 1, 0.1, ".2f")}
    ),
    Figure(
        "threads",
        parallel.threads,
        {"share": Row("50 threads that sleep: rate / ideal", 0.9, 0.97)},
    ),
    Figure(
        "coroutines",
        parallel.coroutines,
        {"share": Row("500 coroutines that sleep: rate / ideal", 0.9, 0.97)},
    ),
    Figure(
        "cpu",
        parallel.cpu,
        {
            "speed-up": Row("renditions, 2 processes / 1", 1.8, 1.95),
            "bare": Row("the same without a queue", form=".2f"),
        },
        databases=(POSTGRESQL,),
    ),
    Figure(
        "statements",
        throughput.statements,
        {"each": Row("SQL statements per task", 0.1, 0.03, ".3f")},
    ),
    Figure(
        "enqueueing",
        throughput.enqueueing,
        {
            **{name: Row(f"SQL statements of a call: {name}", 1, 1) for name in ONE},
            **{name: Row(f"SQL statements of a call: {name}", 2, 2) for name in TWO},
        },
    ),
    Figure(
        "bulk", throughput.bulk, {"rate": Row("rows/s of one map(50,000)", 20_000, 50_000, ",.0f")}
    ),
    Figure(
        "memory",
        throughput.memory,
        {
            "ratio": Row("memory of a child, after 500,000 tasks / 10,000", 1.1, 1.0),
            "megabytes": Row("memory of a child after 500,000 tasks, MiB", form=".0f"),
        },
        databases=(POSTGRESQL,),
    ),
]


@dataclass
class Result:
    """The values of one row, a round each."""

    figure: str
    key: str
    label: str
    database: str
    must: float | None
    aim: float | None
    values: list[float] = field(default_factory=list)
    problem: str = ""


@contextmanager
def benches(databases: list[str], small: bool) -> Iterator[dict[str, Bench]]:
    """A bench for each database; their databases are copies of one that is migrated once."""
    with ExitStack() as stack:
        found = {}
        for database in databases:
            settings.DATABASE = database
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="figures-"))
            maker = deployments(Path(folder))
            make = next(maker)
            stack.callback(next, maker, None)
            found[database] = Bench(database, small, make)
        yield found


def measure(figure: Figure, bench: Bench, rounds: int) -> Iterator[tuple[Row, Result]]:
    """Measure a figure on a database; a problem ends its rounds and stands in its row."""
    settings.DATABASE = bench.database
    collected: list[dict[str, float]] = []
    problem = ""
    for _ in range(rounds):
        try:
            collected.append(figure.measure(bench))
        except Skip as reason:
            problem = f"left out: {reason}"
        except AssertionError as error:
            print(f"{figure.name} on {bench.database}: {error}", file=sys.stderr)
            problem = "failed"
        if problem:
            break
    for key, row in figure.rows.items():
        values = [values[key] for values in collected]
        result = Result(
            figure.name, key, row.label, bench.database, row.bound(bench.database), row.aim
        )
        result.values, result.problem = values, problem
        yield row, result


def line(row: Row, result: Result) -> str:
    values = result.values
    median = row.write(statistics.median(values)) if values else ""
    spread = f"{row.write(min(values))}–{row.write(max(values))}" if values else ""
    cells = [
        row.label,
        result.database,
        row.write(result.must),
        row.write(result.aim),
        " ".join(filter(None, (median, result.problem))),
        spread,
        str(len(values)),
    ]
    return f"| {' | '.join(cells)} |"


def save(path: Path, results: list[Result], rounds: int, small: bool) -> None:
    about = {
        "python": platform.python_version(),
        "django": django.__version__,
        "cores": os.cpu_count(),
        "rounds": rounds,
        "small": small,
    }
    text = json.dumps({**about, "results": [asdict(result) for result in results]}, indent=1)
    path.write_text(text + "\n")


def arguments() -> argparse.Namespace:
    names = [figure.name for figure in FIGURES]
    parser = argparse.ArgumentParser(description="The package's own figures.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each figure (5)")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=" ".join(names))
    parser.add_argument("--database", choices=[SQLITE, POSTGRESQL], help="only this one")
    parser.add_argument("--small", action="store_true", help="a trial run: not for publication")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every value of every round")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="write the table there too")
    return parser.parse_args()


def wanted_databases(only: str | None) -> list[str]:
    wanted = [only] if only else [SQLITE, POSTGRESQL]
    if POSTGRESQL in wanted and (problem := needs.postgresql_problem()):
        print(f"PostgreSQL is left out: it needs {problem}", file=sys.stderr)
        wanted.remove(POSTGRESQL)
    return wanted


def main() -> None:
    given = arguments()
    figures = [
        figure
        for figure in FIGURES
        if (figure.name in given.only if given.only else figure.by_default)
    ]
    if given.small:
        print("A trial run: fewer rows than the lines say, not for publication.\n")
    lines = [f"{machine()}; {given.rounds} rounds", "", *HEAD]
    print("\n".join(lines), flush=True)
    results: list[Result] = []
    with benches(wanted_databases(given.database), given.small) as found:
        for figure in figures:
            for database in filter(found.__contains__, figure.databases):
                for row, result in measure(figure, found[database], given.rounds):
                    results.append(result)
                    lines.append(line(row, result))
                    print(lines[-1], flush=True)
                if given.json:
                    save(given.json, results, given.rounds, given.small)
    if given.into:
        insert(given.into, "figures", "\n".join(lines))


if __name__ == "__main__":
    main()
