"""What is kept of a run, from what the others have seen."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any, TypedDict

from lab.figures import Metric, percentile
from lab.stage.others import Seen

# Seconds before a run in which the server had nothing else to do, and the last ones of them, in
# which the browser may already have been sending its request. A page is there for longer before
# somebody presses a button on it.
BEFORE, JUST_BEFORE = 2.0, 0.1
# Seconds. A run that is shorter is looked at for as long, so that enough others have asked.
SHORTEST = 1.0
RECENT = 15.0  # seconds that the live chart shows


def end_of(start: float, done: float) -> float:
    """Until when the others are looked at, in seconds of the epoch."""
    return max(done, start + SHORTEST)


def of_run(
    seen: Iterable[Seen], failed: Iterable[Seen], server: str, start: float, done: float
) -> dict[str, Any]:
    """What the others of one server saw before a run and during it.

    Args:
        start, done: of the run, in seconds of the epoch.

    Returns:
        ``before`` and ``during``: milliseconds, sorted. ``rate``: answers a second during the run.
        ``points``: when each one asked, in seconds since the start, with its milliseconds.
        ``failed``: how many got no answer, or an error.
    """
    end = end_of(start, done)
    here = [each for each in seen if each.server == server]
    answered = [each for each in here if start <= each.at + each.ms / 1000 <= end]
    return {
        "before": _milliseconds(here, start - BEFORE, start - JUST_BEFORE),
        "during": _milliseconds(here, start, end),
        "rate": round(len(answered) / (end - start), 1),
        "points": [
            [round(each.at - start, 3), round(each.ms, 1)]
            for each in here
            if start - 1 <= each.at <= end
        ],
        "failed": sum(each.server == server and start <= each.at <= end for each in failed),
    }


def _milliseconds(seen: Iterable[Seen], begin: float, end: float) -> list[float]:
    return sorted(round(each.ms, 1) for each in seen if begin <= each.at <= end)


def summary(samples: dict[str, Any]) -> dict[str, float]:
    """The figures of the others, by the names of `lab.figures.Metric`."""
    figures: dict[Metric, float] = {}
    if before := samples["before"]:
        figures[Metric.IDLE_P50] = median(before)
    if during := samples["during"]:
        figures[Metric.OTHERS_P50] = median(during)
        figures[Metric.OTHERS_P95] = percentile(during, 0.95)
        figures[Metric.OTHERS_LONGEST] = max(during)
        figures[Metric.OTHERS_RATE] = samples["rate"]
    if companions := samples.get("companions"):
        figures[Metric.COMPANIONS_P50] = median(companions)
        figures[Metric.COMPANIONS_LONGEST] = max(companions)
        figures[Metric.COMPANIONS_RATE] = len(companions) * 1000 / max(companions)
    return {metric.name: round(value, 2) for metric, value in figures.items()}


class Burst(TypedDict):
    """What those saw who asked at the same moment.

    Attributes:
        age: seconds since then.
        longest: milliseconds.
    """

    server: str
    age: float
    longest: float


def bursts(seen: Iterable[Seen], now: float, seconds: float) -> list[Burst]:
    """The last seconds, burst by burst: the longest wait of each, for a chart."""
    found: dict[tuple[str, float], list[float]] = {}
    for each in seen:
        if each.at >= now - seconds:
            found.setdefault((each.server, round(each.at, 1)), []).append(each.ms)
    return [
        {
            "server": server,
            "age": round(now - at, 1),
            "longest": round(max(waits), 1),
        }
        for (server, at), waits in found.items()
    ]
