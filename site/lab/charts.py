"""Charts as SVG, drawn by the server. Their colours are in ``lab.css``, or in the file itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from math import log10
from typing import Any

WIDTH, LABELS, ROW, TOP, BOTTOM = 720, 250, 20, 16, 22  # pixels
# The scales are logarithmic: an answer takes 2 ms or 2 s, and both must be seen. Milliseconds.
LEAST, MOST = 1.0, 60_000.0
TICKS = ((1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (1_000, "1 s"), (10_000, "10 s"))

# For files, which no style sheet of the site reaches.
STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#1d2330}.quiet{fill:#5a6273}"
    ".grid{stroke:#dcdad3}.dot{fill:#2f4fd0;fill-opacity:.55}.other{fill:#a61b1b}"
    ".start{stroke:#a61b1b}rect{fill:#fff}</style>"
)


def _along(value: float, length: float) -> float:
    """Where a value lies on a logarithmic axis of so many pixels."""
    inside = min(max(value, LEAST), MOST)
    return (log10(inside) - log10(LEAST)) / (log10(MOST) - log10(LEAST)) * length


def _svg(title: str, height: float, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lab-chart" role="img" '
        f'viewBox="0 0 {WIDTH} {height:.0f}"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _dot(x: float, y: float, radius: float, kind: str = "dot") -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{kind}"/>'


Row = tuple[str, str, Sequence[float]]


def dots(title: str, rows: Iterable[Row]) -> str:
    """A dot for each run, on one scale.

    Args:
        rows: a way, a figure, and its milliseconds; those of one figure follow each other.
    """
    parts: list[str] = []
    y = float(TOP)
    for label, group in groupby(rows, key=lambda row: row[1]):
        lanes = [row for row in group if row[2]]
        if not lanes:
            continue
        parts.append(_text(0, y + 12, label))
        y += ROW
        for way, _, values in lanes:
            parts.append(_text(LABELS - 10, y + 13, way, anchor="end", kind="quiet"))
            parts.append(_line(LABELS, y + 9, WIDTH, y + 9, "grid"))
            parts += [
                _dot(LABELS + _along(value, WIDTH - LABELS - 8), y + 9, 5) for value in values
            ]
            y += ROW
        y += ROW / 2
    return _svg(f"{title}: every run", y + BOTTOM, parts + _scale_below(y))


def _scale_below(y: float) -> list[str]:
    length = WIDTH - LABELS - 8
    return [
        _text(LABELS + _along(value, length), y + 12, text, anchor="middle", kind="quiet")
        for value, text in TICKS
    ]


HEIGHT = 170


def waits(title: str, points: Sequence[Sequence[float]], done: float) -> str:
    """How long each request of the others took, by the time of the request.

    Args:
        points: seconds since the start of the run, and milliseconds.
        done: seconds after which the work was done.
    """
    first = min((at for at, _ in points), default=-1.0)
    last = max([done, *(at for at, _ in points)], default=1.0)
    left, right = 60.0, WIDTH - 10.0

    def across(at: float) -> float:
        return left + (at - first) / max(last - first, 0.1) * (right - left)

    parts = _scale_beside(left, right)
    for at, text in ((0.0, "the request"), (done, "the work is done")):
        parts.append(_line(across(at), TOP, across(at), HEIGHT - BOTTOM, "start"))
        if at == 0 or across(at) - across(0) > 120:  # there is room for both texts
            parts.append(_text(across(at), HEIGHT - 6, text, anchor="end", kind="quiet"))
    parts += [_dot(across(at), _up(ms), 2.5) for at, ms in points]
    return _svg(title, HEIGHT, parts)


def live(bursts: Sequence[dict[str, Any]], seconds: float) -> str:
    """The longest wait of each burst of the last seconds; the second server in another colour."""
    left, right = 60.0, WIDTH - 10.0
    parts = _scale_beside(left, right)
    for each in bursts:
        x = right - min(each["age"], seconds) / seconds * (right - left)
        parts.append(
            _dot(x, _up(each["longest"]), 3, "dot" if each["server"] == "ASGI" else "other")
        )
    parts.append(_text(left, HEIGHT - 6, f"{seconds:.0f} s ago", kind="quiet"))
    parts.append(_text(right, HEIGHT - 6, "now", anchor="end", kind="quiet"))
    return _svg("How long the others have waited in the last seconds", HEIGHT, parts)


def _up(ms: float) -> float:
    return HEIGHT - BOTTOM - _along(ms, HEIGHT - TOP - BOTTOM)


def _scale_beside(left: float, right: float) -> list[str]:
    parts = []
    for value, text in TICKS:
        parts.append(_line(left, _up(value), right, _up(value), "grid"))
        parts.append(_text(left - 6, _up(value) + 4, text, anchor="end", kind="quiet"))
    return parts


def as_file(svg: str) -> str:
    """The same chart with its colours in it, on white."""
    background = '<rect width="100%" height="100%"/>'
    return svg.replace("</title>", f"</title>{STYLE}{background}", 1) + "\n"
