"""How much memory and how many threads does the web process take when many come at once?

    .venv/bin/python bench/crowd.py                                # on SQLite
    TEST_DATABASE=postgresql .venv/bin/python bench/crowd.py       # on PostgreSQL

A real web server of one process, without the throttle, and a crowd of visitors. They log in at
once, or change their passwords at once, or each of them posts 2 MB slowly. A reader of /proc
watches the process meanwhile. Beside the crowd somebody asks for the start page again and again;
the longest wait is shown.
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "site")]

from tests.harness import preloaded  # noqa: E402
from tests.harness.site import PASSWORD, LiveSite, Visitor  # noqa: E402

# A forked process imports this file first, and with it the settings of another database.
preloaded.CAN_FORK = False

LOG_INS, CHANGES = 30, 40


class Watch:
    """The most memory (MB) and threads of a process, and the longest wait (s) of a bystander."""

    def __init__(self, site: LiveSite) -> None:
        self.site = site
        self.memory = self.threads = 0
        self.wait = 0.0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        done = threading.Event()
        watchers = [threading.Thread(target=each, args=[done]) for each in (self._read, self._ask)]
        for each in watchers:
            each.start()
        yield
        done.set()
        for each in watchers:
            each.join()

    def _read(self, done: threading.Event) -> None:
        status = Path(f"/proc/{self.site.web.pid}/status")
        while not done.wait(0.005):
            found = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status.read_text(), re.M))
            self.memory = max(self.memory, int(found["VmRSS"]) // 1024)
            self.threads = max(self.threads, int(found["Threads"]))

    def _ask(self, done: threading.Event) -> None:
        bystander = self.site.visitor()
        while not done.wait(0.05):
            begin = time.monotonic()
            bystander.get("/")
            self.wait = max(self.wait, time.monotonic() - begin)


def form_token(visitor: Visitor, path: str) -> str:
    return re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', visitor.get(path).text)[0]


def log_in(visitor: Visitor, name: str) -> Callable[[], int]:
    data = {
        "username": name,
        "password": PASSWORD,
        "csrfmiddlewaretoken": form_token(visitor, "/login/"),
    }
    return lambda: visitor.post("/login/", data=data).status_code


def change(visitor: Visitor, name: str) -> Callable[[], int]:
    log_in(visitor, name)()
    path = "/account/password/"
    data = {
        "old_password": PASSWORD,
        "new_password1": PASSWORD + "x",
        "new_password2": PASSWORD + "x",
        "csrfmiddlewaretoken": form_token(visitor, path),
    }
    return lambda: visitor.post(path, data=data).status_code


def crowd(site: LiveSite, what: str, prepare: Callable[..., Callable[[], int]], many: int) -> None:
    posts = [prepare(site.visitor(), f"u{number}") for number in range(many)]
    watch = Watch(site)
    with watch.watching(), ThreadPoolExecutor(many) as pool:
        begin = time.monotonic()
        codes = list(pool.map(lambda post: post(), posts))
        took = time.monotonic() - begin
    print(
        f"| {many} {what} | {sum(code < 400 for code in codes)} | {took:.1f} s | {watch.memory} MB "
        f"| {watch.threads} | {watch.wait:.1f} s |",
        flush=True,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = LiveSite(Path(folder))
        try:
            site.start()
            site.shell(
                "from django.contrib.auth.hashers import make_password as made;"
                "from signup.models import User;"
                f"User.objects.bulk_create(User(username=f'u{{n}}', password=made({PASSWORD!r}))"
                f" for n in range({CHANGES}))"
            )
            print("| at once | done | in | memory | threads | longest wait for the start page |")
            print("|---|---|---|---|---|---|")
            crowd(site, "start pages", lambda visitor, _: lambda: visitor.get("/").status_code, 40)
            crowd(site, "log-ins", log_in, LOG_INS)
            crowd(site, "changes of a password", change, CHANGES)
        finally:
            site.stop()


if __name__ == "__main__":
    main()
