"""What the lab shows, in the order in which it teaches: patterns, and the ways of each."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from django.urls import reverse

from lab import sizes, tasks
from lab.figures import Metric
from lab.ways import calling, clicking, computing, mails, pictures, reading, reports, waiting

Server = Literal["WSGI", "ASGI"]

BUSY_SCRIPT = Path(__file__).parent / "static" / "lab" / "busy.js"


@dataclass(frozen=True)
class Way:
    """One way of doing the work of a pattern.

    Attributes:
        key: in addresses.
        title: continues the title of the pattern.
        server: which of the two servers runs it.
        view: what answers the request.
        task: what runs in the background, if anything does.
        busy: milliseconds for which the button's script keeps the browser's main thread busy.
    """

    key: str
    title: str
    server: Server
    view: Callable[..., Any]
    task: Any = None
    busy: int = 0

    @property
    def code(self) -> str:
        """The source of what runs, as it stands in the files."""
        parts = [self.view] if self.task is None else [self.view, self.task.task_function]
        sources = [textwrap.dedent(inspect.getsource(part)).strip() for part in parts]
        return "\n\n".join(sources + ([BUSY_SCRIPT.read_text().strip()] if self.busy else []))


@dataclass(frozen=True)
class Claim:
    """A sentence of one of the five pages that this project began from.

    Attributes:
        seed: the number of the page.
        says: what it says, in our words.
        metric: the figure that it is about.
        better, worse: the keys of the ways that it compares.
        why: why the figure may not show it, if it does not.
    """

    seed: str
    says: str
    metric: Metric
    better: str
    worse: str
    why: str = ""


@dataclass(frozen=True)
class Pattern:
    """Slow work of one kind.

    Attributes:
        key: in addresses.
        title, question: for the reader.
        ways: the first one is what the others are compared with.
        choose: what to choose when.
        claims: what the five pages say.
        companions: how many more ask for the same page at the same time as the visitor.
    """

    key: str
    title: str
    question: str
    ways: tuple[Way, ...]
    choose: str
    claims: tuple[Claim, ...] = ()
    companions: int = 0

    def way(self, key: str) -> Way:
        return next(way for way in self.ways if way.key == key)


NO_NETWORK = (
    "INP is the time from a click to the next frame that the browser paints. The browser paints "
    "that frame at once and waits for the answer afterwards, so no part of the server's time is in "
    "INP."
)

PATTERNS = (
    Pattern(
        key="click",
        title="What does a click wait for?",
        question="The server computes for a second, or a script keeps the browser busy for "
        f"{sizes.SCRIPT_MS} milliseconds. Which of them does INP show?",
        ways=(
            Way("idle", "nothing is busy", "WSGI", clicking.by_nothing),
            Way("server", "a busy server", "WSGI", clicking.by_the_server),
            Way("script", "a busy script", "WSGI", clicking.by_a_script, busy=sizes.SCRIPT_MS),
        ),
        choose="If INP is poor, look at your scripts. If TTFB is poor, look at your views.",
        claims=(
            Claim(
                "000",
                "Work in the request increases INP.",
                Metric.INP,
                better="idle",
                worse="server",
                why=NO_NETWORK,
            ),
        ),
    ),
    Pattern(
        key="picture",
        title="Resize a picture of 12 megapixels",
        question="Somebody uploads a picture, and the site needs four smaller ones.",
        ways=(
            Way("view", "in the view", "WSGI", pictures.in_the_view),
            Way(
                "background", "in the background", "WSGI", pictures.in_the_background, tasks.resize
            ),
        ),
        choose="In the background, whenever the answer does not show the result. The page shows a "
        "placeholder until the pictures are there.",
        claims=(
            Claim(
                "000",
                "A background task reduces INP.",
                Metric.INP,
                "background",
                "view",
                NO_NETWORK,
            ),
            Claim("001", "The answer comes sooner.", Metric.TTFB, "background", "view"),
            Claim("002", "The page is painted sooner (LCP).", Metric.LCP, "background", "view"),
        ),
    ),
    Pattern(
        key="mail",
        title="Send a mail through a slow mail server",
        question=f"The mail server needs {sizes.SMTP_SECONDS:g} s to accept a mail.",
        ways=(
            Way("view", "in the view", "WSGI", mails.in_the_view),
            Way(
                "background", "in the background", "WSGI", mails.in_the_background, tasks.send_mail
            ),
        ),
        choose="In the background, always: a mail server that is down must not make a signup fail.",
        claims=(
            Claim(
                "003",
                "Mail in the background keeps the signup fast.",
                Metric.TTFB,
                "background",
                "view",
            ),
        ),
    ),
    Pattern(
        key="report",
        title="Build a report",
        question=f"A workbook of {sizes.REPORT_LINES:,} lines is written.",
        ways=(
            Way("view", "in the view", "WSGI", reports.in_the_view),
            Way(
                "background",
                "in the background",
                "WSGI",
                reports.in_the_background,
                tasks.build_report,
            ),
        ),
        choose="In the background, and show how far it is. In the view, if it takes less than a "
        "tenth of a second.",
        claims=(
            Claim(
                "003",
                "The app stays responsive while a report is built in the background.",
                Metric.OTHERS_P50,
                "background",
                "view",
            ),
        ),
    ),
    Pattern(
        key="api",
        title="Wait for a slow service",
        question="The answer needs what another service says, which takes "
        f"{sizes.API_SECONDS:g} s. Nine companions ask for the same page right after you.",
        ways=(
            Way("sync", "a sync view that waits", "WSGI", waiting.in_a_sync_view),
            Way("async", "an async view that awaits", "ASGI", waiting.in_an_async_view),
        ),
        choose="In the background, if the answer does not need what the service says. Otherwise an "
        "async view, if more may ask at once than the WSGI server has threads.",
        claims=(
            Claim(
                "004",
                "An async view keeps the server free for others.",
                Metric.OTHERS_P95,
                "async",
                "sync",
            ),
            Claim(
                "004",
                "An async view gives a better LCP.",
                Metric.LCP,
                "async",
                "sync",
                "An async view lets others have their turn. Whoever asks first waits for the "
                "service and for nothing else, in both.",
            ),
            Claim(
                "004",
                "An async view serves many who wait at the same time.",
                Metric.COMPANIONS_P50,
                "async",
                "sync",
            ),
        ),
        companions=9,
    ),
    Pattern(
        key="compute",
        title="Compute for a second",
        question=f"The primes below {sizes.PRIMES_BELOW:,} are counted, in pure Python.",
        ways=(
            Way("sync", "in a sync view", "WSGI", computing.in_a_sync_view),
            Way("async", "in an async view", "ASGI", computing.in_an_async_view),
            Way("thread", "in a thread of an async view", "ASGI", computing.in_a_thread),
            Way(
                "background",
                "in the background, from an async view",
                "ASGI",
                computing.in_the_background,
                tasks.count_primes,
            ),
        ),
        choose="In the background, with a page that shows how far it is. If that is impossible, in "
        "a sync view, which still slows the others in its process. Never in the body of an async "
        "view.",
        claims=(
            Claim(
                "004",
                "CPU work in an async view slows everybody down, and in a sync view less.",
                Metric.OTHERS_P50,
                "sync",
                "async",
                "The threads of a process share Python's interpreter lock, so a sync view that "
                "computes slows the others down, too, if the same process serves them.",
            ),
        ),
    ),
    Pattern(
        key="files",
        title="Read and process many files",
        question=f"{sizes.FILES} files are read, and their words are counted.",
        ways=(
            Way("sync", "in a sync view", "WSGI", reading.in_a_sync_view),
            Way("at-once", "in an async view, all CPU work at once", "ASGI", reading.all_at_once),
            Way("chunks", "in an async view, in small chunks", "ASGI", reading.in_small_chunks),
            Way(
                "background",
                "in the background, from an async view",
                "ASGI",
                reading.in_the_background,
                tasks.count_words,
            ),
        ),
        choose="In the background, with a page that shows how far it is. If that is impossible, in "
        "a sync view. Small chunks keep an async server alive, but the visitor waits longer for "
        "the answer.",
        claims=(
            Claim(
                "004",
                "Small chunks keep the event loop alive.",
                Metric.OTHERS_LONGEST,
                "chunks",
                "at-once",
            ),
        ),
    ),
    Pattern(
        key="calls",
        title=f"Call a service {sizes.CALLS} times",
        question=f"Each call takes {sizes.CALL_SECONDS:g} s, and nobody waits for them on a page.",
        ways=(
            Way(
                "threads",
                "plain tasks in ten threads",
                "ASGI",
                calling.by_threads,
                tasks.call,
            ),
            Way(
                "coroutines",
                "coroutines in one thread",
                "ASGI",
                calling.by_coroutines,
                tasks.acall,
            ),
        ),
        choose="Tasks that are coroutines, if they wait for services. Plain tasks, if they "
        "compute.",
        claims=(
            Claim(
                "004",
                "Async handles many network requests at once.",
                Metric.DONE,
                "coroutines",
                "threads",
            ),
        ),
    ),
)


def find(key: str) -> Pattern:
    return next(pattern for pattern in PATTERNS if pattern.key == key)


def address(pattern: str, way: str) -> str:
    """The path that runs a way."""
    return reverse(f"lab-{pattern}-{way}")
