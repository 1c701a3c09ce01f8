"""The figures of the lab as Markdown and charts, and whether they can be true."""

from __future__ import annotations

import json
from collections.abc import Iterable
from statistics import median
from typing import Any, NamedTuple

from lab import charts
from lab.catalogue import PATTERNS, Pattern
from lab.figures import Metric
from lab.page import Findings
from lab.verdicts import ENOUGH_RUNS


class Run(NamedTuple):
    """A run of a way: its figures by the names of `lab.figures.Metric`; none if it failed."""

    pattern: str
    way: str
    figures: dict[str, float]


def dump(runs: Iterable[Run]) -> str:
    """The runs as JSON, a line for each."""
    return "[\n" + ",\n".join(json.dumps(run) for run in runs) + "\n]\n"


def load(text: str) -> list[Run]:
    """Read what `dump` has written."""
    found: list[Any] = json.loads(text)
    return [Run(*each) for each in found]


def findings(pattern: Pattern, runs: Iterable[Run]) -> Findings:
    """What the runs of a pattern say, but for those that failed."""
    return Findings(
        pattern,
        {
            way.key: [
                {Metric[name]: value for name, value in run.figures.items()}
                for run in runs
                if (run.pattern, run.way) == (pattern.key, way.key) and run.figures
            ]
            for way in pattern.ways
        },
    )


class Report:
    """What was measured in all runs.

    Args:
        machine: on what it was measured.
        runs: all that are counted.
    """

    def __init__(self, machine: str, runs: list[Run]) -> None:
        self.machine = machine
        self.runs = runs
        self.found = {pattern.key: findings(pattern, runs) for pattern in PATTERNS}

    def markdown(self) -> str:
        """All patterns, one after the other."""
        parts = [
            f"Measured by `make lab`: {self.machine}; {len(self.runs)} runs in shuffled order"
            f"{self._failed()}. Each figure is a median; behind it stand its range and the number "
            "of runs that have it.",
            *(_pattern(number, each) for number, each in enumerate(self.found.values(), 1)),
            _claims(list(self.found.values())),
        ]
        return "\n\n".join(parts)

    def charts(self) -> dict[str, str]:
        """The charts by the names of their files."""
        return {f"{key}.svg": charts.as_file(found.chart()) for key, found in self.found.items()}

    def problems(self) -> list[str]:
        """What cannot be true; the margins are wide, so that no slow machine is suspected."""
        if missing := self._missing():
            return missing
        value = self._median
        demands = [
            *(
                (
                    f"{key}: TTFB in the background is at most a fifth of that in the view",
                    5 * value(key, "background", Metric.TTFB) <= value(key, "view", Metric.TTFB),
                )
                for key in ("picture", "mail", "report")
            ),
            (
                "api: during async I/O, the others are served within twice the idle time",
                value("api", "async", Metric.OTHERS_P50)
                <= 2 * value("api", "async", Metric.IDLE_P50),
            ),
            (
                "compute: during CPU work in an async view, the others wait five times as long",
                value("compute", "async", Metric.OTHERS_P50)
                >= 5 * value("compute", "async", Metric.IDLE_P50),
            ),
            (
                "files: small chunks stall the others at most a third as long as all at once",
                3 * value("files", "chunks", Metric.OTHERS_LONGEST)
                <= value("files", "at-once", Metric.OTHERS_LONGEST),
            ),
        ]
        return [text for text, holds in demands if not holds]

    def _missing(self) -> list[str]:
        return [
            f"{key}, {way}: {len(runs)} runs, and a verdict needs {ENOUGH_RUNS}"
            for key, found in self.found.items()
            for way, runs in found.runs.items()
            if len(runs) < ENOUGH_RUNS
        ]

    def _failed(self) -> str:
        count = sum(not run.figures for run in self.runs)
        return f", of which {count} failed" if count else ""

    def _median(self, pattern: str, way: str, metric: Metric) -> float:
        found = self.found[pattern]
        return median(found.values(found.pattern.way(way), metric))


def _pattern(number: int, found: Findings) -> str:
    pattern = found.pattern
    titles = [way.title for way in pattern.ways]
    lines = [
        f"### {number}. {pattern.title}",
        "",
        pattern.question,
        "",
        f"| | {' | '.join(titles)} |",
        f"|---|{'---|' * len(titles)}",
    ]
    for line in found.lines():
        cells = [
            f"{cell.median} ({cell.range}; {len(cell.values)})" if cell.range else cell.median
            for cell in line.cells
        ]
        lines.append(f"| {line.metric.label} | {' | '.join(cells)} |")
    lines += ["", f"![{pattern.title}: a dot for each run](../images/lab/{pattern.key}.svg)", ""]
    for way, words in found.everybody():
        lines.append(f"- Others, {way.title}: they waited {words}.")
    for verdict in found.verdicts():
        lines += ["", f"**{verdict.heading[:1].upper()}{verdict.heading[1:]}:**", ""]
        lines += [f"- {each}" for each in verdict.differences + verdict.alike]
        if verdict.doubt:
            lines.append(f"- {verdict.doubt}")
    lines += ["", f"**What to choose:** {pattern.choose}"]
    return "\n".join(lines)


def _claims(found: list[Findings]) -> str:
    lines = [
        "### What the five articles say, and what was seen",
        "",
        "| article | says | seen? | figures |",
        "|---|---|---|---|",
    ]
    for each in found:
        for checked in each.claims():
            seen = "yes" if checked.holds else "no" if checked.known else "not measured"
            ways = f"{checked.better.title}, compared with {checked.worse.title}"
            compared = f"{ways}: {checked.result.words}."
            why = f" {checked.claim.why}" if seen == "no" else ""
            lines.append(
                f"| {checked.claim.seed} | {checked.claim.says} | {seen} | {compared}{why} |"
            )
    return "\n".join(lines)
