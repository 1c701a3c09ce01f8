"""The figures of a run, each with its name, its unit and how finely it can be told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from math import ceil
from typing import NamedTuple

from lab.models import Run


class Kind(NamedTuple):
    """What a figure is.

    Attributes:
        label: for the reader.
        unit: of the figure, and of ``step``.
        step: a smaller difference is none: it is below what can be measured.
    """

    label: str
    unit: str
    step: float


class Metric(Enum):
    """All figures. The first three are the browser's, as web-vitals reports them."""

    TTFB = Kind("Time to first byte (TTFB)", "ms", 10)
    LCP = Kind("Largest contentful paint (LCP)", "ms", 20)
    # The browser rounds it to 8 ms, and it ends with a frame: one every 16 ms.
    INP = Kind("Interaction to next paint (INP)", "ms", 24)
    SERVER = Kind("The server's time for the answer", "ms", 10)
    DONE = Kind("The work was done after", "ms", 50)
    IDLE_P50 = Kind("Others before, median", "ms", 5)
    OTHERS_P50 = Kind("Others meanwhile, median", "ms", 5)
    OTHERS_P95 = Kind("Others meanwhile, 95%", "ms", 10)
    OTHERS_LONGEST = Kind("Others meanwhile, longest", "ms", 20)
    OTHERS_RATE = Kind("Others served meanwhile", "/s", 10)
    COMPANIONS_P50 = Kind("Companions, median", "ms", 20)
    COMPANIONS_LONGEST = Kind("Companions, longest", "ms", 50)
    COMPANIONS_RATE = Kind("Companions served", "/s", 0.5)

    @property
    def label(self) -> str:
        return self.value.label

    def show(self, value: float) -> str:
        """The value with its unit, as a reader wants it: three digits are enough."""
        if self.value.unit == "/s":
            return f"{value:,.0f}/s" if value >= 10 else f"{value:.1f}/s"
        return f"{value / 1000:,.2f} s" if value >= 1000 else f"{value:.0f} ms"


Figures = dict[Metric, float]


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that ``share`` of all do not exceed.

    Args:
        share: over 0, at most 1.
    """
    return sorted(values)[ceil(share * len(values)) - 1]


def of_run(run: Run) -> Figures:
    """What was measured in a run; what is missing was not."""
    figures = {Metric[name]: value for name, value in (run.browser | run.others).items()}
    return figures | _since(
        run.started_at, {Metric.SERVER: run.answered_at, Metric.DONE: run.done_at}
    )


def _since(start: datetime, ends: dict[Metric, datetime | None]) -> Figures:
    return {metric: (end - start).total_seconds() * 1000 for metric, end in ends.items() if end}


def column(runs: Iterable[Figures], metric: Metric) -> list[float]:
    """One figure of all runs that have it."""
    return [run[metric] for run in runs if metric in run]
