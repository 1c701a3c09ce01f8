"""Watching a task at the site as it is deployed: streams of events, and who may have them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.bgtasks.watch.helpers import Events
from tests.harness import pictures
from tests.harness.site import LiveSite, Visitor

JPEG = {"avatar": ("me.jpg", pictures.jpeg_with_location(), "image/jpeg")}
EVENTS = {"Accept": "text/event-stream"}


@contextmanager
def stream(visitor: Visitor, url: str, **headers: str) -> Iterator[Events]:
    with visitor.stream("GET", url, headers=EVENTS | headers) as response:
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Events(response)


def address_of_picture(visitor: Visitor) -> str:
    page = visitor.get("/account/").text
    return page.partition('<figure class="avatar" data-watch="')[2].partition('"')[0]


@pytest.fixture
def idle(site: LiveSite) -> Iterator[LiveSite]:
    """The site without a worker; it has one again after the test."""
    site.worker.stop()
    yield site
    if not site.worker.alive:
        site.worker = site.start_worker()


def test_a_stream_tells_each_change_until_the_end(idle: LiveSite) -> None:
    visitor = idle.visitor()
    visitor.sign_up("wanda", files=JPEG)
    with stream(visitor, address_of_picture(visitor)) as events:
        coming = iter(events)
        name, first = next(coming)
        assert (name, first["state"], first["ended"]) == ("change", "waiting", False)
        idle.worker = idle.start_worker()
        rest = list(coming)
    states = [task["state"] for name, task in rest if name == "change"]
    assert states[-1] == "succeeded"
    assert rest[-1] == ("end", rest[-2][1])
    assert rest[-1][1]["succeeded"]
