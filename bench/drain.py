"""How fast is a full queue worked off, by bgtasks and by its peers?

    pip install -r bench/requirements.txt
    python bench/drain.py [--rounds 5] [--tasks 10000] [--only NAME ...] [--json F] [--chart F]
                           [--into PAGE]

Each round fills and drains every system once, in an order shuffled anew, one at a time. The
tasks do nothing but append 16 bytes to a file. They are enqueued first; then one worker is
started as its documentation starts it, with its own default durability, logging warnings only.
A rate is tasks over the time from the first execution to the last; for bgtasks, to the moment
the last outcome was recorded, where that is later. A ratio is taken within a round, and the
median is over the rounds. Slow systems get fewer tasks. A lost task is an error.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "site")]

from bench.chart import Bar, draw  # noqa: E402
from bench.page import insert  # noqa: E402
from bench.systems import ALL, YARDSTICK, Drained, System  # noqa: E402
from bench.versions import machine  # noqa: E402

HEAD = (
    "| system | version | tasks | median/s | min–max | of Celery | of the limit "
    "| what it promises |\n|---|---|---:|---:|---:|---:|---:|---|"
)


@dataclass
class Results:
    """What all rounds came to, by the name of the system.

    Attributes:
        rounds: each round's drains.
        failures: what went wrong, one text for each time.
        skipped: why a system was not measured at all.
    """

    rounds: list[dict[str, Drained]] = field(default_factory=list)
    failures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    skipped: dict[str, str] = field(default_factory=dict)

    def drains(self, name: str) -> list[Drained]:
        return [drains[name] for drains in self.rounds if name in drains]

    def rates(self, name: str) -> list[float]:
        """Tasks a second, one for each round that succeeded."""
        return [drained.rate for drained in self.drains(name)]

    def ratio(self, name: str, other: str | None) -> float | None:
        """The median over rounds of one's rate by the other's in the same round."""
        both = [drains for drains in self.rounds if name in drains and other in drains]
        ratios = [drains[name].rate / drains[other].rate for drains in both if other]
        return statistics.median(ratios) if ratios else None


def once(system: System, tasks: int) -> Drained:
    try:
        system.fill(min(tasks, system.most or tasks))
        return system.drain()
    finally:
        system.clear()


def one_round(systems: Sequence[System], tasks: int, results: Results) -> dict[str, Drained]:
    """Measure each once. One that fails does not stop the others."""
    drains: dict[str, Drained] = {}
    for system in random.sample(systems, len(systems)):
        try:
            drains[system.name] = once(system, tasks)
            said = f"{drains[system.name].rate:,.0f}/s"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            results.failures[system.name].append(said)
        print(f"  {system.name}: {said}", file=sys.stderr, flush=True)
    return drains


@contextmanager
def prepared(chosen: Sequence[type[System]], results: Results) -> Iterator[list[System]]:
    """Those that can be measured here; their leftovers go in any case."""
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(made))
        systems: list[System] = []
        for number, kind in enumerate(chosen):
            (folder / str(number)).mkdir()
            system = kind(folder / str(number))
            if reason := system.unavailable():
                results.skipped[system.name] = reason
            else:
                stack.callback(system.close)
                systems.append(system)
        yield systems


def measure(chosen: Sequence[type[System]], rounds: int, tasks: int) -> tuple[Results, list[str]]:
    """All rounds, and the table's rows."""
    results = Results()
    with prepared(chosen, results) as systems:
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            results.rounds.append(one_round(systems, tasks, results))
        rows = [row(system, results) for system in systems]
    rows += [
        f"| {name} | skipped: {why} |  |  |  |  |  |  |" for name, why in results.skipped.items()
    ]
    return results, rows


def row(system: System, results: Results) -> str:
    name, rates = system.name, results.rates(system.name)
    drains, failures = results.drains(name), results.failures.get(name, [])
    cells = [name, system.version(), f"{drains[-1].tasks:,}" if drains else "–"]
    cells.append(f"{statistics.median(rates):,.0f}" if rates else "–")
    cells.append(f"{min(rates):,.0f}–{max(rates):,.0f}" if rates else "–")
    cells += [factor(results.ratio(name, YARDSTICK)), share(results.ratio(name, system.limit))]
    notes = [system.promise]
    if duplicates := sum(drained.duplicates for drained in drains):
        notes.append(f"**{duplicates} ran twice.**")
    if failures:
        notes.append(
            f"**Failed in {len(failures)} of {len(results.rounds)} rounds: {failures[0]}**"
        )
    cells.append(" ".join(notes).replace("|", "/").replace("\n", " "))
    return f"| {' | '.join(cells)} |"


def factor(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}×"


def share(ratio: float | None) -> str:
    if ratio is None:
        return "–"
    return f"{ratio:.0%}" if ratio > 0.095 else f"{ratio:.2%}"


def bars(chosen: Sequence[type[System]], results: Results) -> list[Bar]:
    """The fastest first; the limits left out, which run no tasks."""
    limits = {system.limit for system in ALL}
    found = []
    for name in (system.name for system in chosen if system.name not in limits):
        if rates := results.rates(name):
            ours = name.startswith("bgtasks")
            found.append(Bar(name, statistics.median(rates), min(rates), max(rates), ours))
    return sorted(found, key=lambda bar: -bar.median)


def as_json(header: str, results: Results) -> str:
    # `asdict` of Python 3.11 cannot copy a defaultdict.
    plain = replace(results, failures=dict(results.failures))
    content: dict[str, Any] = {"machine": header, **asdict(plain)}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def arguments() -> argparse.Namespace:
    names = [system.name for system in ALL]
    parser = argparse.ArgumentParser(
        description="Work off a full queue, with each system in turn.",
        epilog="Systems: " + "; ".join(names),
    )
    parser.add_argument("--rounds", type=int, default=5, help="5")
    parser.add_argument("--tasks", type=int, default=10_000, help="for each system (10000)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="systems with this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every rate there")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw an SVG there")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="write the table there too")
    return parser.parse_args()


def selected(words: list[str] | None) -> list[type[System]]:
    if words is None:
        return ALL
    chosen = [s for s in ALL if any(word.lower() in s.name.lower() for word in words)]
    if not chosen:
        sys.exit(f"No system has {' or '.join(words)} in its name")
    return chosen


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    chosen, header = selected(given.only), machine()
    results, rows = measure(chosen, given.rounds, given.tasks)
    table = "\n".join([f"{header}; {given.rounds} rounds", "", HEAD, *rows])
    print(table)
    if given.into:
        insert(given.into, "drain", table)
    if given.json:
        given.json.write_text(as_json(header, results))
    if given.chart:
        title = "Tasks a second, from a full queue"
        note = f"{header}. Medians of {given.rounds} rounds; lines from min to max."
        given.chart.write_text(draw(title, note, bars(chosen, results)))


if __name__ == "__main__":
    main()
