"""``manage.py lab`` with its real servers: when they start, and that they never outlive it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.process import Process, children, state
from tests.harness.site import LiveSite, Visitor
from tests.harness.waiting import eventually

# With the lab in the browser, so that one machine has one lab at a time.
pytestmark = pytest.mark.xdist_group("lab")

StartLab = Callable[..., Process]


@pytest.fixture(scope="module")
def lab_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    """The site, whose lab does not run yet."""
    site = LiveSite(tmp_path_factory.mktemp("lab"))
    site.start()
    yield site
    site.stop()


@pytest.fixture(scope="module")
def looker(lab_site: LiveSite) -> Visitor:
    """Somebody who may look at the lab."""
    lab_site.staff("looker")
    visitor = lab_site.visitor()
    assert visitor.log_in("looker").status_code == 302
    return visitor


@pytest.fixture
def start_lab(lab_site: LiveSite, tmp_path: Path) -> Iterator[StartLab]:
    started = []

    def start(session: bool = False, **environment: str) -> Process:
        # A lab that is killed leaves its files behind.
        env = lab_site.env | {"LAB_SCALE": "0.05", "TMPDIR": str(tmp_path)} | environment
        lab = Process("manage.py", "lab", "--site", lab_site.url, env=env, session=session)
        started.append(lab)
        return lab

    yield start
    for lab in started:
        lab.stop()


def look(lab: Process, looker: Visitor, after: int = 0) -> None:
    """Open the page, and wait until the servers run."""
    lab.wait_for("The lab waits for somebody", after)
    assert looker.get("/lab/").status_code == 200
    lab.wait_for("The lab is set up", after)


def descendants(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *descendants(child))]


def command(pid: int) -> str:
    """What a process runs; empty if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def ended(pids: list[int]) -> bool:
    return all(state(pid) in {"", "Z"} for pid in pids)


def stages(lab_site: LiveSite) -> list[dict[str, Any]]:
    return lab_site.database.query("SELECT * FROM lab_stage")


@pytest.mark.once
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_the_servers_start_for_somebody_and_end_with_the_lab(
    lab_site: LiveSite, looker: Visitor, start_lab: StartLab, end: signal.Signals
) -> None:
    lab = start_lab(session=True)  # a terminal sends Ctrl-C to all of its group
    lab.wait_for("The lab waits for somebody")
    assert children(lab.pid) == []
    look(lab, looker)
    [stage] = stages(lab_site)
    processes = descendants(lab.pid)
    assert len(processes) >= 6  # three, and what each is tied to
    with socket.create_connection(("127.0.0.1", stage["smtp_port"])) as mail:
        assert mail.recv(3) == b"220"
    assert lab.stop(end) == 0
    assert ended(processes)
    assert stages(lab_site) == []
    assert "Traceback" not in lab.output


@pytest.mark.once
def test_a_killed_lab_leaves_no_process_behind_and_the_next_takes_its_place(
    lab_site: LiveSite, looker: Visitor, start_lab: StartLab
) -> None:
    lab = start_lab()
    look(lab, looker)
    processes = descendants(lab.pid)
    lab.stop(signal.SIGKILL)
    eventually(lambda: ended(processes), "all processes ended")
    again = start_lab()
    again.wait_for("A lab is set up already")  # until the row counts as lost
    look(again, looker)
    assert len(stages(lab_site)) == 1


@pytest.mark.once
def test_a_second_lab_waits_for_the_first(looker: Visitor, start_lab: StartLab) -> None:
    first = start_lab()
    first.wait_for("The lab waits for somebody")
    second = start_lab()
    second.wait_for("A lab is set up already")
    assert first.stop() == 0
    look(second, looker)


@pytest.mark.once
def test_a_server_that_dies_is_said_and_the_lab_begins_anew(
    looker: Visitor, start_lab: StartLab
) -> None:
    lab = start_lab()
    look(lab, looker)
    after = lab.mark()
    _tied, server = (pid for pid in descendants(lab.pid) if "wsgi_server" in command(pid))
    os.kill(server, signal.SIGKILL)
    lab.wait_for("WSGI server has ended by itself, with exit code 137", after)
    lab.wait_for("The lab begins anew", after)
    look(lab, looker, after)


@pytest.mark.once
def test_the_wsgi_server_knows_behind_a_proxy_that_the_visitor_has_tls(
    lab_site: LiveSite, looker: Visitor, start_lab: StartLab
) -> None:
    lab = start_lab(
        SITE_URL="https://example.com", SECURE_SSL_REDIRECT="1", PROXY_HOPS="1", ALLOWED_HOSTS="*"
    )
    look(lab, looker)
    [stage] = stages(lab_site)
    address = f"{stage['wsgi_url']}/lab/light/"
    told = {"Host": "example.com", "X-Forwarded-Proto": "https"}
    assert httpx.get(address, headers=told).status_code == 200
    assert httpx.get(address, headers={"Host": "example.com"}).status_code == 301


@pytest.mark.on_postgresql
def test_a_lost_database_is_said_and_the_lab_begins_anew(
    lab_site: LiveSite, looker: Visitor, start_lab: StartLab
) -> None:
    lab = start_lab()
    look(lab, looker)
    after = lab.mark()
    lab_site.database.administer(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{lab_site.database.name}'"
    )
    lab.wait_for("The lab begins anew", after)
    look(lab, looker, after)
