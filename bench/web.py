"""How long does a visitor wait for a signup, with the slow work done here or there?

    make bench-web                                # on SQLite
    TEST_DATABASE=postgresql make bench-web       # on PostgreSQL

Three sites run side by side, each a real web server on a database of its own, with a real
mail server that takes two seconds for a mail: one sends no mail at all (the baseline), one
does everything in the request, one in the background with a worker beside it. A fourth is
the third with its mail server down. Each round signs up once in every way, in an order
shuffled anew; between two signups the worker is waited for, so that they do not share the
processor. A time is from the POST to the end of the response. A ratio is taken within a
round, against the baseline of that round, and the median is over all rounds.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "site")]

import django  # noqa: E402
from PIL import Image  # noqa: E402

from tests import settings  # noqa: E402
from tests.harness.servers import Mailbox, free_port  # noqa: E402
from tests.harness.site import LiveSite  # noqa: E402

SECONDS_A_MAIL = 2
BASELINE = ("no mail", "none")


class Way(NamedTuple):
    name: str
    mode: str
    mail_server: bool
    worker: bool


WAYS = [
    Way("no mail", "nothing", mail_server=True, worker=False),
    Way("all in the request", "request", mail_server=True, worker=False),
    Way("in the background", "background", mail_server=True, worker=True),
    Way("in the background, mail server down", "background", mail_server=False, worker=True),
]


class BenchSite(LiveSite):
    """A site that does its slow work in one of the ways."""

    def __init__(self, folder: Path, way: Way) -> None:
        super().__init__(folder, application="bench.application:application")
        self.way = way
        self.mailbox.close()
        self.mailbox = Mailbox(seconds_a_mail=SECONDS_A_MAIL)
        self.env["EMAIL_URL"] = (
            self.mailbox.url if way.mail_server else f"smtp://127.0.0.1:{free_port()}"
        )
        self.env["BENCH_MODE"] = way.mode

    def start(self) -> None:
        super().start()
        if not self.way.worker:
            self.worker.stop()
        self.sign_up_once("warm-up", None)

    def sign_up_once(self, name: str, avatar: tuple[str, bytes, str] | None) -> float:
        """Sign up, and return the seconds from the POST to the end of the response."""
        after = self.worker.mark()
        visitor = self.visitor()
        try:
            files = {"avatar": avatar} if avatar else None
            response = visitor.sign_up(name, files=files)
        finally:
            visitor.close()
        assert response.status_code == 302, response.text
        if self.way.worker:
            self.wait_for_worker(after, avatar is not None)
        return response.elapsed.total_seconds()

    def wait_for_worker(self, after: int, has_avatar: bool) -> None:
        self.worker.wait_for(" signup.tasks.send_welcome_email (attempt", after)
        if has_avatar:
            self.worker.wait_for(" signup.tasks.make_renditions (attempt", after)


def photograph() -> dict[str, tuple[str, bytes, str] | None]:
    """A noisy picture of 12 megapixels in each format, none over the site's 10 MiB."""
    bands = [
        Image.effect_noise((400, 300), 80).resize((4000, 3000), Image.Resampling.BICUBIC)
        for _ in range(3)
    ]
    # Few colours keep the PNG under the limit; JPEG and WebP do not mind.
    image = Image.merge("RGB", bands).quantize(64).convert("RGB")
    made: dict[str, tuple[str, bytes, str] | None] = {"none": None}
    for kind, options in (
        ("JPEG", {"quality": 85}),
        ("PNG", {"compress_level": 6}),
        ("WEBP", {"quality": 85, "method": 2}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        made[kind] = (f"me.{kind.lower()}", buffer.getvalue(), f"image/{kind.lower()}")
    return made


def measure(rounds: int) -> dict[tuple[str, str], list[float]]:
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    avatars = photograph()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sites = []
        for number, way in enumerate(WAYS):
            (folder / str(number)).mkdir()
            site = BenchSite(folder / str(number), way)
            stack.callback(site.stop)
            site.start()
            sites.append(site)
        turns = [(site, kind) for site in sites for kind in avatars]
        for number in range(rounds):
            random.shuffle(turns)
            for site, kind in turns:
                seconds = site.sign_up_once(f"visitor-{number}-{kind}", avatars[kind])
                times[site.way.name, kind].append(seconds)
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    sizes = {kind: len(avatar[1]) for kind, avatar in avatars.items() if avatar}
    print("Pictures: " + ", ".join(f"{k} {v / 1024**2:.1f} MiB" for k, v in sizes.items()) + "\n")
    return times


def report(times: dict[tuple[str, str], list[float]]) -> None:
    baseline = times[BASELINE]
    print("| slow work | avatar | median ms | min–max ms | over baseline | added ms |")
    print("|---|---|---:|---:|---:|---:|")
    for (name, kind), seconds in sorted(times.items(), key=lambda item: order(*item[0])):
        ratio = paired(lambda a, b: a / b, seconds, baseline)
        added = paired(lambda a, b: (a - b) * 1000, seconds, baseline)
        low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
        print(
            f"| {name} | {kind.lower()} | {middle * 1000:.0f} | {low * 1000:.0f}–{high * 1000:.0f} "
            f"| {ratio:.2f} | {added:+.0f} |"
        )


def paired(
    compare: Callable[[float, float], float], these: list[float], those: list[float]
) -> float:
    return statistics.median(compare(a, b) for a, b in zip(these, those, strict=True))


def order(name: str, kind: str) -> tuple[int, int]:
    return [way.name for way in WAYS].index(name), ["none", "JPEG", "PNG", "WEBP"].index(kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="signups in each way (15)")
    rounds = parser.parse_args().rounds
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"Django {django.__version__}, {settings.DATABASE}, {rounds} rounds, "
        f"{SECONDS_A_MAIL} s a mail"
    )
    report(measure(rounds))


if __name__ == "__main__":
    main()
