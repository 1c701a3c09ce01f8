"""What the page of the lab shows of each pattern: its runs, their figures, and what they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from lab import charts
from lab.catalogue import Claim, Pattern, Way, address
from lab.figures import Figures, Metric, column, of_run
from lab.models import Run
from lab.verdicts import Comparison, Order, compare, doubt

BROWSER = (Metric.TTFB, Metric.LCP, Metric.INP)
SHOWN = (
    *BROWSER,
    Metric.SERVER,
    Metric.DONE,
    Metric.IDLE_P50,
    Metric.OTHERS_P50,
    Metric.OTHERS_P95,
    Metric.OTHERS_LONGEST,
    Metric.OTHERS_RATE,
    Metric.COMPANIONS_P50,
    Metric.COMPANIONS_LONGEST,
    Metric.COMPANIONS_RATE,
)
# The figures by which one chooses between two ways.
JUDGED = (
    *BROWSER,
    Metric.DONE,
    Metric.OTHERS_P50,
    Metric.OTHERS_LONGEST,
    Metric.COMPANIONS_P50,
)

CHARTED = (*BROWSER, Metric.OTHERS_LONGEST, Metric.DONE)

Runs = dict[str, list[Figures]]


class Cell:
    """A figure of a way: the median of its runs, and their range."""

    def __init__(self, metric: Metric, values: Sequence[float]) -> None:
        self.values = values
        self.median = metric.show(median(values)) if values else "–"
        self.range = ""
        if len(values) > 1:
            self.range = f"{metric.show(min(values))} to {metric.show(max(values))}"


@dataclass(frozen=True)
class Line:
    """A figure of all ways of a pattern."""

    metric: Metric
    cells: list[Cell]


@dataclass(frozen=True)
class Verdict:
    """What one way costs or saves, compared with another.

    Attributes:
        heading: which ways are compared.
        differences: clauses, one for each figure that differs.
        alike: clauses for the figures that do not.
        doubt: a sentence if there are too few runs; otherwise "".
    """

    heading: str
    differences: list[str]
    alike: list[str]
    doubt: str


@dataclass(frozen=True)
class Checked:
    """A sentence of one of the five pages, and what was measured of it."""

    claim: Claim
    better: Way
    worse: Way
    result: Comparison

    @property
    def holds(self) -> bool:
        return self.result.order is Order.LESS

    @property
    def known(self) -> bool:
        return self.result.order is not Order.UNKNOWN

    @property
    def doubt(self) -> str:
        """A sentence if there are few runs; otherwise ""."""
        return doubt([self.result])


class Findings:
    """All that is known of a pattern.

    Args:
        runs: of each way by its key, the figures of its runs.
    """

    def __init__(self, pattern: Pattern, runs: Runs) -> None:
        self.pattern = pattern
        self.runs = runs

    @property
    def ways(self) -> list[tuple[Way, str]]:
        """Each way, and the path that runs it."""
        return [(way, address(self.pattern.key, way.key)) for way in self.pattern.ways]

    @property
    def count(self) -> int:
        return sum(map(len, self.runs.values()))

    def values(self, way: Way, metric: Metric) -> list[float]:
        """One figure of all runs of a way."""
        return column(self.runs.get(way.key, []), metric)

    def lines(self) -> list[Line]:
        """The table: a line for each figure that any way has."""
        lines = [
            Line(metric, [Cell(metric, self.values(way, metric)) for way in self.pattern.ways])
            for metric in SHOWN
        ]
        return [line for line in lines if any(cell.values for cell in line.cells)]

    def compared(self, metric: Metric, way: Way, other: Way) -> Comparison:
        return compare(metric, self.values(way, metric), self.values(other, metric))

    def verdicts(self) -> list[Verdict]:
        """Each way but the first one, compared with the first one; those that have been run."""
        first, *rest = self.pattern.ways
        found = [(way, self._known(way, first)) for way in rest]
        return [self._verdict(way, first, known) for way, known in found if known]

    def _known(self, way: Way, first: Way) -> list[Comparison]:
        found = [self.compared(metric, way, first) for metric in JUDGED]
        return [each for each in found if each.order is not Order.UNKNOWN]

    @staticmethod
    def _verdict(way: Way, first: Way, found: list[Comparison]) -> Verdict:
        return Verdict(
            heading=f"{way.title}, compared with {first.title}",
            differences=[each.words for each in found if each.order is not Order.SAME],
            alike=[each.words for each in found if each.order is Order.SAME],
            doubt=doubt(found),
        )

    def everybody(self) -> list[tuple[Way, str]]:
        """Of each way that has been run: what it meant for the others on the same server."""
        found = [(way, self._for_others(way)) for way in self.pattern.ways]
        return [(way, words) for way, words in found if words]

    def _for_others(self, way: Way) -> str:
        meanwhile = self.values(way, Metric.OTHERS_P50)
        before = self.values(way, Metric.IDLE_P50)
        found = compare(Metric.OTHERS_P50, meanwhile, before)
        if found.order is Order.UNKNOWN:
            return ""
        show = Metric.OTHERS_P50.show
        ours, theirs = show(found.ours), show(found.theirs)
        if found.order is Order.MORE:
            return f"{found.ratio:.1f} times as long as before ({ours} instead of {theirs})"
        if found.order is Order.LESS:
            return f"not as long as before ({ours} instead of {theirs})"
        return f"about as long as before: no difference seen ({ours} and {theirs})"

    def claims(self) -> list[Checked]:
        """What the five pages say of this, and whether it was seen."""
        return [self._checked(claim) for claim in self.pattern.claims]

    def _checked(self, claim: Claim) -> Checked:
        better, worse = (self.pattern.way(key) for key in (claim.better, claim.worse))
        return Checked(claim, better, worse, self.compared(claim.metric, better, worse))

    def chart(self) -> str:
        """The figures of every run as dots, as SVG."""
        return charts.dots(
            self.pattern.title,
            [
                (way.title, metric.label, self.values(way, metric))
                for metric in CHARTED
                for way in self.pattern.ways
            ],
        )


def findings(pattern: Pattern, runs: Iterable[Run], *, wsgi: bool) -> Findings:
    """What the runs of a pattern say, but for those that came to nothing.

    Args:
        wsgi: whether the WSGI server is in reach. The ASGI server runs all ways where it is not,
            and such runs are not comparable with others.
    """
    servers = {way.key: way.server if wsgi else "ASGI" for way in pattern.ways}
    by_way: Runs = {key: [] for key in servers}
    for run in runs:
        if servers.get(run.way) == run.server and not run.problem:
            by_way[run.way].append(of_run(run))
    return Findings(pattern, by_way)
