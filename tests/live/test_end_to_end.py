"""The product's job, on the real thing: sign up, be answered, and see it arrive."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import time
from email.message import EmailMessage
from pathlib import Path

import pytest
from PIL import Image

from tests.harness import needs, pictures
from tests.harness.process import Process
from tests.harness.servers import Mailbox, free_port
from tests.harness.site import LiveSite

JPEG = {"avatar": ("me.jpg", pictures.jpeg_with_location(orientation=6), "image/jpeg")}


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(preferencelist=("plain",))
    assert body is not None
    return str(body.get_content())


def test_a_signup_is_answered_and_its_mail_arrives_in_two_parts(site: LiveSite) -> None:
    visitor = site.visitor()
    response = visitor.sign_up("ada")
    assert (response.status_code, response.headers["Location"]) == (302, "/account/")
    assert "User registered" in visitor.get("/account/").text
    mail = site.mailbox.next_to("ada@example.com")
    assert mail["Subject"] == "Welcome, ada"
    parts = [part.get_content_type() for part in mail.walk()]
    assert parts == ["multipart/alternative", "text/plain", "text/html"]
    assert f"{site.url}/account/" in text_of(mail)


@pytest.mark.parametrize("name", ["\u0438\u0440\u0438\u043d\u0430", "\u674e"])
def test_a_name_of_any_letters_signs_up_and_logs_in(site: LiveSite, name: str) -> None:
    visitor = site.visitor()
    assert visitor.sign_up(name, email="").headers["Location"] == "/account/"
    assert name in visitor.get("/account/").text
    returning = site.visitor()
    assert returning.log_in(name).headers["Location"] == "/account/"
    assert "known_browser" in returning.cookies


def test_an_avatar_is_rendered_served_and_its_original_removed(site: LiveSite) -> None:
    visitor = site.visitor()
    before = site.worker.mark()
    visitor.sign_up("bea", files=JPEG)
    site.worker.wait_for(" signup.tasks.make_renditions (attempt", before)
    addresses = set(re.findall(r"/pictures/\S+\.webp", visitor.get("/account/").text))
    assert len(addresses) == 3
    for address in addresses:
        response = visitor.get(address)
        image = Image.open(io.BytesIO(response.content))
        assert (image.format, image.width) == ("WEBP", image.height)
        assert not image.getexif()
    assert list((site.media / "originals").iterdir()) == []


def test_a_forgotten_password_is_reset_by_mail(site: LiveSite) -> None:
    site.visitor().sign_up("cleo")
    site.mailbox.next_to("cleo@example.com")
    visitor = site.visitor()
    assert visitor.submit("/password/reset/", email="cleo@example.com").status_code == 302
    mail = site.mailbox.next_to("cleo@example.com")
    [link] = re.findall(re.escape(site.url) + r"\S+", text_of(mail))
    before = site.web.mark()
    form = visitor.get(link).headers["Location"]
    logged = site.web.wait_for("GET /password/reset/", before)
    assert "/***/" in logged
    new = "another-Long-77"
    assert visitor.submit(form, new_password1=new, new_password2=new).status_code == 302
    done = visitor.submit("/login/", username="cleo", password=new)
    assert done.headers["Location"] == "/account/"
    assert link.split("/")[-2] not in site.web.output + site.worker.output


def test_with_the_mail_server_down_a_signup_is_answered_and_the_mail_comes_later(
    site: LiveSite,
) -> None:
    port = free_port()
    site.worker.stop()
    offline = Process(
        "manage.py", "process_tasks", "--sleep", "0.1",
        env=site.env | {"EMAIL_URL": f"smtp://127.0.0.1:{port}"},
    )  # fmt: skip
    try:
        assert site.visitor().sign_up("dora").status_code == 302
        offline.wait_for(" signup.tasks.send_welcome_email (attempt")
        mailbox = Mailbox(port)
        assert mailbox.next_to("dora@example.com")["Subject"] == "Welcome, dora"
        mailbox.close()
    finally:
        offline.stop()
        site.worker = site.start_worker()


def test_a_report_of_a_hundred_thousand_users_is_built_in_bounded_memory(site: LiveSite) -> None:
    status = Path(f"/proc/{site.worker.pid}/status")
    if not status.exists():
        needs.missing("/proc, to see how much memory the worker took")

    def peak_megabytes() -> int:
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) // 1024

    site.staff("boss")
    boss = site.visitor()
    boss.log_in("boss")
    today = {"start": "2020-01-01", "end": time.strftime("%Y-%m-%d", time.gmtime())}

    def build() -> None:
        before = site.worker.mark()
        assert boss.submit("/reports/", **today).status_code == 302
        site.worker.wait_for(" signup.tasks.build_report (attempt", before, timeout=300)

    build()
    small = peak_megabytes()
    site.shell(
        "from signup.models import User;"
        "User.objects.bulk_create((User(username=f'u{n}', email=f'u{n}@example.com')"
        " for n in range(100_000)), batch_size=10_000)"
    )
    build()
    assert peak_megabytes() < small + 30

    page = boss.get("/reports/").text
    assert re.search(r"1000\d\d signups", page)
    [address, *_] = re.findall(r"/reports/\S+/download/", page)
    response = boss.get(address)
    assert response.content.startswith(b"PK")
    assert "attachment" in response.headers["Content-Disposition"]


HALF_A_SIGNUP = """
import os, sys
from django.core.files.base import ContentFile
from django.db import transaction
from signup import registration
from signup.models import User

def stop_here(key, creator):
    print("before the commit", flush=True)
    sys.stdin.read()

registration.make_renditions = stop_here
registration._save(User(username="eve"), ContentFile(b"content", "me.jpg"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_before_the_commit_leaves_but_a_file_and_the_sweep_takes_it(site: LiveSite) -> None:
    victim = Process("manage.py", "shell", "-v0", "-c", HALF_A_SIGNUP, env=site.env)
    victim.wait_for("before the commit")
    victim.stop(signal.SIGKILL)
    counts = (
        "from signup.models import Avatar, User; from background_task.models import Task;"
        "print(User.objects.filter(username='eve').count(),"
        " Task.objects.filter(task_name__endswith='make_renditions').count())"
    )
    assert site.shell(counts) == "0 0"
    [orphan] = (site.media / "originals").iterdir()
    sweep = "from signup.tasks import sweep_files; print(sweep_files.now())"
    assert site.shell(sweep).endswith("0")
    an_hour_ago = time.time() - 3601
    os.utime(orphan, (an_hour_ago, an_hour_ago))
    assert site.shell(sweep).endswith("1")
    assert not orphan.exists()


def test_static_files_are_served_compressed_and_for_good(site: LiveSite) -> None:
    visitor = site.visitor()
    [address] = re.findall(r'href="(/static/site\.\w+\.css)"', visitor.get("/").text)
    response = visitor.get(address)
    assert response.headers["Content-Encoding"] in ("gzip", "br", "zstd")
    assert "immutable" in response.headers["Cache-Control"]


def test_a_websocket_is_refused_in_a_line_of_log(site: LiveSite) -> None:
    before = site.web.mark()
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    assert site.visitor().get("/ws", headers=handshake).status_code == 403
    assert site.visitor().get("/healthz").status_code == 200
    site.web.wait_for("/healthz", before)
    assert "Traceback" not in site.web.output


def test_a_file_somewhat_too_large_is_told_on_the_form(site: LiveSite) -> None:
    large = {"avatar": ("me.jpg", pictures.jpeg() + bytes(11 * 1024**2), "image/jpeg")}
    response = site.visitor().sign_up("finn", files=large)
    assert response.status_code == 200
    assert "at most 10 MB" in response.text


def test_an_upload_that_would_fill_the_disk_is_refused(site: LiveSite) -> None:
    response = site.visitor().post("/signup/", content=bytes(30 * 1024**2))
    assert response.status_code == 413
    assert site.visitor().get("/healthz").status_code == 200
