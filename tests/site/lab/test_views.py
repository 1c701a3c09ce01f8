"""The page of the lab, and what the browser reports to it."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core import signing
from django.test import Client
from django.utils import timezone

from lab import views
from lab.catalogue import PATTERNS
from lab.models import KEPT_RUNS, Run, Stage
from lab.running import VISIT_SALT, report_address
from lab.views import new_visit
from tests.site.lab.helpers import over, press, set_up

pytestmark = pytest.mark.django_db


def test_every_way_has_a_button_and_its_own_code(staff: Client) -> None:
    set_up()
    page = html.unescape(staff.get("/lab/").text)
    for pattern in PATTERNS:
        for way in pattern.ways:
            assert f'id="run-{pattern.key}-{way.key}"' in page
            assert way.code in page
            assert f"def {way.view.__name__}(" in way.code
            if way.task:
                assert way.code.count("def ") == 2
    assert "disabled" not in page


def test_the_page_says_how_many_others_ask(staff: Client, settings: Any) -> None:
    set_up()
    settings.LAB_OTHERS = 7
    page = re.sub(r"\s+", " ", staff.get("/lab/").text)
    assert "Meanwhile 7 others ask the same server" in page


def test_sync_ways_lead_to_the_wsgi_server_and_async_ones_stay(staff: Client) -> None:
    stage = set_up()
    answer = staff.get("/lab/", headers={"host": "127.0.0.1"})
    actions = re.findall(r'action="([^"]*/lab/run/[^"]+)"', answer.text)
    assert f"{stage.wsgi_url}/lab/run/api/sync/" in actions
    assert "/lab/run/api/async/" in actions
    assert f"form-action 'self' {stage.wsgi_url}" in answer["Content-Security-Policy"]
    assert f"frame-src 'self' {stage.wsgi_url}" in answer["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]


def test_from_another_machine_the_site_itself_runs_all_ways(staff: Client) -> None:
    stage = set_up()
    answer = staff.get("/lab/")
    assert stage.wsgi_url not in answer.text
    assert "Your browser cannot reach that one" in answer.text
    assert "form-action 'self';" in answer["Content-Security-Policy"] + ";"


def test_the_wsgi_server_may_have_a_public_address(staff: Client, settings: Any) -> None:
    set_up()
    settings.LAB_WSGI_URL = "https://sync.example.com/"
    assert 'action="https://sync.example.com/lab/run/api/sync/"' in staff.get("/lab/").text


def test_whoever_loads_the_page_lets_the_others_ask(staff: Client) -> None:
    set_up()
    staff.get("/lab/")
    assert Stage.objects.get().watched_until > timezone.now() + timedelta(seconds=30)


def test_without_servers_the_page_says_how_to_start_them(staff: Client) -> None:
    page = staff.get("/lab/").text
    assert "python manage.py lab" in page
    assert page.count("disabled") == sum(len(pattern.ways) for pattern in PATTERNS)


def test_while_they_start_the_page_waits_and_then_loads_itself(staff: Client) -> None:
    stage = set_up(wsgi_url="")
    page = staff.get("/lab/").text
    assert "servers start" in page
    [live] = re.findall(r'hx-get="([^"]+)"', page)
    live = html.unescape(live)
    assert "HX-Refresh" not in staff.get(live)
    assert Stage.objects.get().watched_until > timezone.now()
    Stage.objects.filter(pk=stage.pk).update(wsgi_url="http://127.0.0.1:2")
    assert staff.get(live)["HX-Refresh"] == "true"


def test_each_page_is_a_visit_of_its_own(staff: Client) -> None:
    set_up()
    tickets = {
        re.findall(r'name="ticket" value="([^"]+)"', staff.get("/lab/").text)[0] for _ in "ab"
    }
    assert len(tickets) == 2


def test_the_live_part_follows_a_run_and_leads_to_its_figures(staff: Client) -> None:
    set_up()
    visit = new_visit()
    live = f"/lab/live/{visit}/?wsgi=http://127.0.0.1:2"
    assert "Ready" in staff.get(live).text
    press(staff, "mail/background", visit)
    assert "The work goes on in the background" in staff.get(live).text
    Run.objects.update(active=None, done_at=timezone.now())
    assert "Measured" in staff.get(live).text
    Run.objects.update(done_at=timezone.now() - timedelta(seconds=5))
    number = Run.objects.get().pk
    assert staff.get(live)["HX-Redirect"] == f"/lab/?run={number}#mail"
    assert "Ready" in staff.get(live.replace(visit, new_visit())).text


def test_a_page_made_for_servers_that_have_ended_loads_itself_anew(staff: Client) -> None:
    stage = set_up()
    [live] = re.findall(r'hx-get="([^"]+)"', staff.get("/lab/").text)
    assert "HX-Refresh" not in staff.get(live)
    Stage.objects.filter(pk=stage.pk).update(wsgi_url="http://127.0.0.1:9")
    assert staff.get(live)["HX-Refresh"] == "true"


def test_a_page_that_is_open_lets_the_others_ask_until_it_is_old(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up()
    live = f"/lab/live/{new_visit()}/"
    staff.get(live)
    watched = Stage.objects.get().watched_until
    assert watched > timezone.now()
    monkeypatch.setattr(views, "OLD", -1)
    assert "the others do not ask any more" in staff.get(live).text
    assert Stage.objects.get().watched_until == watched


@pytest.mark.parametrize("visit", ["v1", "-" * 32, "0" * 32])
def test_a_visit_that_nobody_was_given_is_old(staff: Client, visit: str) -> None:
    set_up()
    assert "the others do not ask any more" in staff.get(f"/lab/live/{visit}/").text


def test_a_run_that_came_to_nothing_is_shown_and_not_counted(staff: Client) -> None:
    run = over("mail", "view", problem="It had not ended in time.", TTFB=5000)
    page = staff.get(f"/lab/?run={run.pk}").text
    assert "It had not ended in time." in page
    assert "Others meanwhile" not in page
    assert "What it costs the others" not in page


@pytest.mark.parametrize("number", ["0", "-1", "x", "9" * 30, "1%00", "²"])
def test_an_address_of_no_run_shows_the_page(staff: Client, number: str) -> None:
    assert staff.get(f"/lab/?run={number}").status_code == 200


def test_a_verdict_stands_beneath_its_pattern(staff: Client) -> None:
    for milliseconds in (20, 30):
        over("mail", "background", TTFB=milliseconds, INP=16)
        over("mail", "view", TTFB=1000 + milliseconds, INP=24)
    page = html.unescape(staff.get("/lab/").text)
    assert "Time to first byte (TTFB): 25 ms instead of 1.02 s, which is 41 times as long." in page
    assert "Interaction to next paint (INP): no difference seen (16 ms and 24 ms)." in page
    assert "fewer than 4 runs" in page
    assert "Seen:" in page


def test_runs_on_another_server_are_not_compared(staff: Client) -> None:
    set_up()
    for server, host in (("WSGI", "127.0.0.1"), ("ASGI", "testserver")):
        over("mail", "view", TTFB=1000, server=server)
        page = staff.get("/lab/", headers={"host": host}).text
        assert page.count("<td>1.00 s") == 1, server
    Stage.objects.all().delete()
    assert staff.get("/lab/", headers={"host": "127.0.0.1"}).text.count("<td>1.00 s") == 1


def test_a_page_of_many_runs_costs_few_queries(
    staff: Client, django_assert_max_num_queries: Any
) -> None:
    for pattern in PATTERNS:
        for way in pattern.ways:
            for _ in range(KEPT_RUNS):
                over(pattern.key, way.key, TTFB=1.0)
    with django_assert_max_num_queries(8):
        assert staff.get("/lab/").status_code == 200


def test_figures_are_read_as_json(staff: Client) -> None:
    run = over("mail", "view", TTFB=5.0, OTHERS_P50=3.0)
    found = staff.get(f"/lab/runs/{run.pk}/").json()
    assert found["figures"] == {"TTFB": 5.0, "OTHERS_P50": 3.0}
    assert staff.get("/lab/runs/999999/").status_code == 404


def send(client: Client, address: str, told: Any) -> int:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return client.post(address, body, content_type="text/plain").status_code


def test_the_browser_reports_its_figures(client: Client) -> None:
    run = over("mail", "view")
    assert send(client, report_address(run), {"name": "TTFB", "value": 12.34}) == 204
    assert send(client, report_address(run), {"name": "LCP", "value": 50}) == 204
    address = f"/lab/visit/{signing.dumps(run.visit, salt=VISIT_SALT)}/"
    assert send(client, address, {"name": "INP", "value": 24}) == 204
    run.refresh_from_db()
    assert run.browser == {"TTFB": 12.3, "LCP": 50.0, "INP": 24.0}


def test_a_report_that_was_overtaken_by_a_later_one_does_not_replace_it(client: Client) -> None:
    run = over("click", "script")
    address = f"/lab/visit/{signing.dumps(run.visit, salt=VISIT_SALT)}/"
    for value in (408, 16):
        assert send(client, address, {"name": "INP", "value": value}) == 204
    run.refresh_from_db()
    assert run.browser == {"INP": 408.0}


@pytest.mark.parametrize(
    "told",
    [
        b"{",
        b"\xff",
        b"[1]",
        b"[" * 1000,
        b"7",
        {"name": "TTFB"},
        {"name": "TTFB", "value": None},
        {"name": "TTFB", "value": "x"},
        {"name": "TTFB", "value": -1},
        {"name": "TTFB", "value": 1e9},
        b'{"name": "TTFB", "value": NaN}',
        b'{"name": "TTFB", "value": 1e999}',
        {"name": "INP", "value": 1},  # the answer's page has no click
        {"name": "DONE", "value": 1},
        {"name": ["TTFB"], "value": 1},
    ],
    ids=str,
)
def test_an_odd_report_is_refused(client: Client, told: Any) -> None:
    run = over("mail", "view")
    assert send(client, report_address(run), told) == 400
    run.refresh_from_db()
    assert run.browser == {}


@pytest.mark.parametrize("told", [b"x" * 2000, b""], ids=["long", "of unknown length"])
def test_a_report_has_its_bounds(client: Client, told: bytes) -> None:
    assert send(client, report_address(over("mail", "view")), told) == 413


@pytest.mark.parametrize("path", ["report", "visit"])
def test_a_report_needs_an_address_from_here(client: Client, path: str) -> None:
    assert send(client, f"/lab/{path}/WzFd:1:forged/", {"name": "TTFB", "value": 1}) == 404


def test_a_report_of_a_run_that_is_gone_is_dropped(client: Client) -> None:
    run = over("mail", "view")
    address = report_address(run)
    run.delete()
    assert send(client, address, {"name": "TTFB", "value": 1}) == 204
