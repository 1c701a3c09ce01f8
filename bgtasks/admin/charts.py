"""Charts as SVG, made on the server: nothing is fetched from elsewhere, and no script is needed.

Colours are left to CSS classes. Each chart has its numbers beside it, for the table that says the
same as the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

# The picture is scaled to the width that it gets; these are its own units.
WIDTH, HEIGHT = 420, 190
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 24
_ACROSS, _DOWN = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
# The least and the greatest duration that an axis of durations shows, in seconds, and its labels.
DURATIONS = (
    (0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s"), (10.0, "10 s"),
    (60.0, "1 min"), (600.0, "10 min"), (3600.0, "1 h"), (36_000.0, "10 h"), (360_000.0, "100 h"),
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A series of a chart.

    Attributes:
        title: what it shows.
        style: the CSS class of its marks.
        values: one for each point; None where there is none.
    """

    title: str
    style: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Label:
    """A text at an axis, and the line across the chart that belongs to it.

    Attributes:
        at: its place, from the left for the time, from the top for a value.
    """

    at: str
    text: str


@dataclass(frozen=True)
class Mark:
    """A rectangle, or a line, of a column.

    Attributes:
        points: of a line; the other attributes are of a rectangle.
    """

    style: str
    points: str = ""
    x: str = ""
    y: str = ""
    width: str = ""
    height: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart, with all that its template needs.

    Attributes:
        name: for the ids of its elements.
        summary: what it shows, in a sentence, for who does not see it.
        times: a text for each point.
        rows: for each point its time, and the text of each column's value.
    """

    name: str
    title: str
    summary: str
    columns: Sequence[Column]
    marks: Sequence[Mark]
    up: Sequence[Label]
    across: Sequence[Label]
    rows: Sequence[tuple[str, Sequence[str]]]
    is_empty: bool

    box = f"0 0 {WIDTH} {HEIGHT}"
    left, right, bottom = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM
    text_left, text_bottom = LEFT - 6, HEIGHT - 8


def bars(
    name: str, title: str, times: Sequence[str], columns: Sequence[Column], unit: str
) -> Chart:
    """A chart of counts, as bars that stand on each other.

    Args:
        times: a text for each point.
        unit: what is counted, for the summary.
    """
    totals = [sum(column.values[i] or 0 for column in columns) for i in range(len(times))]
    top = _round_up(max(totals, default=0))
    step = _ACROSS / max(1, len(times))
    marks = []
    for place in range(len(times)):
        height = 0.0
        for column in columns:
            if value := column.values[place] or 0:
                part = max(1.0, value / top * _DOWN)
                marks.append(
                    Mark(
                        column.style,
                        x=_number(LEFT + place * step + step * 0.1),
                        y=_number(TOP + _DOWN - height - part),
                        width=_number(step * 0.8),
                        height=_number(part),
                    )
                )
                height += part
    up = [
        Label(_number(TOP + _DOWN * (1 - share)), f"{top * share:,g}") for share in (0.0, 0.5, 1.0)
    ]
    sums = ", ".join(
        f"{sum(value or 0 for value in column.values):,g} {column.title.lower()}"
        for column in columns
    )
    summary = f"{unit} from {times[0]} to {times[-1]}: {sums}."
    return Chart(
        name, title, summary, columns, marks, up, _times(times, step),
        list(_rows(times, columns, lambda value: f"{value:,g}")), not any(totals),
    )  # fmt: skip


def lines(
    name: str,
    title: str,
    times: Sequence[str],
    columns: Sequence[Column],
    text: Callable[[float | None], str],
) -> Chart:
    """A chart of durations in seconds, as lines, with a logarithmic axis.

    Args:
        text: shows a duration.
    """
    there = [value for column in columns for value in column.values if value is not None]
    axis = _axis(there)
    low, high = math.log(axis[0][0]), math.log(axis[-1][0])

    def height(seconds: float) -> float:
        share = (math.log(max(seconds, axis[0][0])) - low) / (high - low)
        return TOP + _DOWN * (1 - min(1.0, share))

    step = _ACROSS / max(1, len(times))
    marks = []
    for column in columns:
        for run in _unbroken(column.values):
            points = [(LEFT + (place + 0.5) * step, height(value)) for place, value in run]
            if len(points) == 1:  # a line needs two
                points = [
                    (points[0][0] - step / 2, points[0][1]),
                    (points[0][0] + step / 2, points[0][1]),
                ]
            marks.append(
                Mark(column.style, " ".join(f"{_number(x)},{_number(y)}" for x, y in points))
            )
    up = [Label(_number(height(seconds)), label) for seconds, label in axis]
    worst = max(there, default=None)
    summary = f"{title} from {times[0]} to {times[-1]}, on a logarithmic scale"
    summary += f"; at most {text(worst)}." if worst is not None else "; no runs."
    return Chart(
        name, title, summary, columns, marks, up, _times(times, step),
        list(_rows(times, columns, text)), not there,
    )  # fmt: skip


def _unbroken(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """The parts of a series without a gap: each as places and values."""
    run: list[tuple[int, float]] = []
    for place, value in enumerate(values):
        if value is not None:
            run.append((place, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _axis(values: Sequence[float]) -> list[tuple[float, str]]:
    """The labels of an axis on which these durations fit: at least two, with their seconds."""
    low, high = min(values, default=0.001), max(values, default=1.0)
    first = max((i for i, (at, _) in enumerate(DURATIONS) if at <= low), default=0)
    last = min((i for i, (at, _) in enumerate(DURATIONS) if at >= high), default=len(DURATIONS) - 1)
    first = min(first, len(DURATIONS) - 2)
    return list(DURATIONS[first : max(last, first + 1) + 1])


def _round_up(value: float) -> float:
    """The least number of the form 2, 4 or 10 times a power of ten that is not below a value."""
    if value <= 2:
        return 2.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * digit for digit in (1, 2, 4, 6, 8, 10) if power * digit >= value)


def _times(times: Sequence[str], step: float) -> list[Label]:
    """Four of the times, for the axis."""
    places = sorted({round(share * (len(times) - 1)) for share in (0.08, 0.36, 0.64, 0.92)})
    return [Label(_number(LEFT + (place + 0.5) * step), times[place]) for place in places]


def _rows(
    times: Sequence[str], columns: Sequence[Column], text: Callable[[float], str]
) -> Iterator[tuple[str, Sequence[str]]]:
    """The numbers of the points that have some, the last one first."""
    for place in reversed(range(len(times))):
        values = [column.values[place] for column in columns]
        if any(values):
            yield times[place], [text(value) if value is not None else "" for value in values]


def _number(value: float) -> str:
    return f"{value:.1f}"
