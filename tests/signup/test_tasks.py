from __future__ import annotations

import io
import re
from typing import Any

import pytest
from background_task.models import CompletedTask, Task
from background_task.tasks import tasks as registry
from django.core import mail
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.test import Client
from PIL import Image

from bgtasks import AsyncResult
from bgtasks.queue import progress
from bgtasks.tasks import policies
from signup import files, images, tasks
from signup.models import Avatar, Report, User, Work
from signup.registration import replace_avatar
from tests.conftest import queued, run_queued, stored
from tests.harness import pictures

pytestmark = pytest.mark.django_db


@pytest.fixture
def avatar(user: User) -> Avatar:
    replace_avatar(user, ContentFile(pictures.jpeg_with_location(), "me.jpg"))
    return Avatar.objects.get()


def test_the_welcome_mail_has_a_text_and_an_html_part(user: User) -> None:
    assert tasks.send_welcome_email.now(user.pk) == "Sent"
    [sent] = mail.outbox
    assert sent.subject == "Welcome, zoe"
    assert sent.to == ["zoe@example.com"]
    assert "http://testserver/account/" in sent.body
    [html] = sent.alternatives
    assert html.mimetype == "text/html"
    assert 'href="http://testserver/account/"' in html.content


def test_without_an_address_no_mail_is_sent(user: User) -> None:
    User.objects.update(email="")
    assert tasks.send_welcome_email.now(user.pk) == "No email provided"
    assert mail.outbox == []


def test_a_user_who_is_gone_is_no_failure(user: User) -> None:
    key = user.pk
    user.delete()
    assert tasks.send_welcome_email.now(key) == "No such user any more"


def test_a_username_is_escaped_in_the_html_and_plain_in_the_text(db: None) -> None:
    user = User.objects.create(username="a&b<c>", email="a@example.com")
    tasks.send_welcome_email.now(user.pk)
    [sent] = mail.outbox
    assert sent.subject == "Welcome, a&b<c>"
    assert "a&amp;b&lt;c&gt;" in sent.alternatives[0].content


def test_a_mail_server_that_is_down_leaves_the_task_to_be_tried_again(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> int:
        raise ConnectionRefusedError("the mail server is down")

    User.objects.create_user("zoe", "zoe@example.com")
    monkeypatch.setattr("django.core.mail.EmailMultiAlternatives.send", refuse)
    run_queued()
    row = Task.objects.get(task_name=tasks.send_welcome_email.name)
    assert row.attempts == 1
    assert "the mail server is down" in row.last_error


def test_fixtures_welcome_nobody(user: User, tmp_path: Any) -> None:
    fixture = tmp_path / "users.json"
    call_command("dumpdata", "signup.User", output=str(fixture))
    user.delete()
    call_command("loaddata", str(fixture), verbosity=0)
    assert User.objects.get().username == "zoe"
    assert queued() == []


def test_a_changed_user_is_not_welcomed_again(user: User) -> None:
    user.first_name = "Zoe"
    user.save()
    assert queued() == []


def test_renditions_take_the_place_of_the_original(avatar: Avatar) -> None:
    assert tasks.make_renditions.now(str(avatar.pk)) == "Made"
    avatar.refresh_from_db()
    assert (avatar.state, avatar.percent) == (Avatar.State.READY, 100)
    assert stored() == sorted(f"pictures/{avatar.pk}_{size}.webp" for size in (64, 256, 512))
    for size in Avatar.SIZES:
        with default_storage.open(files.picture_name(avatar.pk, size)) as file:
            image = Image.open(io.BytesIO(file.read()))
        assert (image.format, image.size) == ("WEBP", (size, size))
        assert not image.getexif()


def test_the_percent_grows_while_renditions_are_made(
    avatar: Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0)
    seen = []
    put = files.put

    def watched(name: str, content: bytes) -> None:
        seen.append(Avatar.objects.get().percent)
        put(name, content)

    monkeypatch.setattr(files, "put", watched)
    run_queued()
    assert seen == [25, 50, 75]


def test_a_second_run_does_nothing(avatar: Avatar) -> None:
    tasks.make_renditions.now(str(avatar.pk))
    assert tasks.make_renditions.now(str(avatar.pk)) == "Nothing to do"


def test_a_run_after_one_that_was_killed_starts_afresh(avatar: Avatar) -> None:
    files.put(files.picture_name(avatar.pk, 512), b"half a picture")
    assert tasks.make_renditions.now(str(avatar.pk)) == "Made"
    assert len(stored()) == 3


def test_a_picture_replaced_meanwhile_leaves_no_files(
    avatar: Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = files.put

    def delete_first(name: str, content: bytes) -> None:
        Avatar.objects.all().delete()
        put(name, content)

    monkeypatch.setattr(files, "put", delete_first)
    assert tasks.make_renditions.now(str(avatar.pk)) == "No longer wanted"
    assert not Avatar.objects.exists()
    assert stored() == []


@pytest.mark.parametrize("kind", ["avatar", "report"])
def test_of_two_runs_at_once_the_slower_leaves_the_result_alone(
    avatar: Avatar, user: User, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    report = Report.objects.create(created_by=user, start="2026-01-01", end="2026-01-02")
    work, task = (
        (avatar, tasks.make_renditions) if kind == "avatar" else (report, tasks.build_report)
    )
    finish = type(work).finish
    second: list[str] = []

    def run_again_first(self: Work) -> bool:
        if not second:
            second.append("begun")
            second.append(task.now(str(work.pk)))
        return finish(self)

    monkeypatch.setattr(type(work), "finish", run_again_first)
    assert task.now(str(work.pk)) == "Done by another run"
    assert second[1] in ("Made", "Built")
    work.refresh_from_db()
    assert work.ready
    assert set(files.names_of(work)) - {files.original_name(work.pk)} <= set(stored())


def test_a_storage_that_fails_leaves_the_original_and_the_task(
    avatar: Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("signup.tasks.default_storage.open", fail)
    with pytest.raises(OSError, match="Input/output"):
        tasks.make_renditions.now(str(avatar.pk))
    avatar.refresh_from_db()
    assert avatar.pending
    assert stored() == [files.original_name(avatar.pk)]


def test_a_decoder_that_does_not_end_is_ended() -> None:
    # That a worker ends what runs longer than its limit is tested with bgtasks.
    assert policies.of(tasks.make_renditions.name).limit == tasks.DECODING_TIMEOUT


def test_an_address_of_many_accounts_gets_a_few_mails_at_a_time(user: User) -> None:
    for number in range(8):
        User.objects.create_user(f"zoe{number}", "zoe@example.com", "quite-Long-99")
    tasks.send_password_reset.now("zoe@example.com")
    assert len(mail.outbox) == 5


def test_an_original_that_cannot_be_decoded_is_told_and_removed(avatar: Avatar) -> None:
    files.put(files.original_name(avatar.pk), pictures.jpeg()[:900])
    assert tasks.make_renditions.now(str(avatar.pk)).startswith("Failed")
    avatar.refresh_from_db()
    assert avatar.state == Avatar.State.FAILED
    assert "damaged or incomplete" in avatar.error
    assert stored() == []


def test_a_task_out_of_attempts_is_told_to_who_waits(
    avatar: Avatar, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    def lose_the_disk(*args: Any) -> None:
        raise OSError("the storage is down")

    settings.MAX_ATTEMPTS = 1
    monkeypatch.setattr("signup.tasks._render", lose_the_disk)
    assert registry.run_next_task()
    assert CompletedTask.objects.get().failed_at
    avatar.refresh_from_db()
    assert avatar.state == Avatar.State.FAILED
    assert "Please try again" in avatar.error
    monkeypatch.undo()
    run_queued()
    assert stored() == []


def test_a_new_picture_replaces_the_old_one_and_its_files(avatar: Avatar, user: User) -> None:
    run_queued()
    replace_avatar(user, ContentFile(pictures.jpeg(), "me.jpg"))
    assert user.picture == avatar
    assert user.avatar != avatar
    run_queued()
    new = Avatar.objects.get()
    assert stored() == sorted(f"pictures/{new.pk}_{size}.webp" for size in (64, 256, 512))


def test_of_uploads_that_were_never_made_none_is_kept(avatar: Avatar, user: User) -> None:
    replace_avatar(user, ContentFile(pictures.jpeg(), "me.jpg"))
    assert Avatar.objects.get().pk != avatar.pk


def test_a_picture_that_cannot_be_made_leaves_the_one_before(
    client: Client, avatar: Avatar, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_queued()
    replace_avatar(user, ContentFile(pictures.jpeg(), "me.jpg"))
    monkeypatch.setattr(images, "renditions", broken)
    run_queued()
    client.force_login(user)
    page = client.get("/account/avatar/").content.decode()
    assert avatar.url(256) in page
    assert "It is broken. Your picture is still the one before." in page


def broken(*args: Any) -> Any:
    raise images.BadImage("It is broken.")


def test_with_the_user_go_the_files(avatar: Avatar, user: User) -> None:
    run_queued()
    user.delete()
    run_queued()
    assert stored() == []


def test_the_account_tells_what_became_of_the_welcome_mail(
    db: None, settings: Any, client: Client
) -> None:
    user = User.objects.create_user("zoe", "zoe@example.com", "quite-Long-99")
    client.force_login(user)
    page = client.get("/account/").content.decode()
    assert "on its way" in page
    fragment = re.findall(r'hx-get="(\S*welcome\S*)"', page)[0]
    assert "hx-get" in client.get(fragment).content.decode()
    run_queued()
    assert "hx-get" not in client.get(fragment).content.decode()
    assert ">sent</span>" in client.get("/account/").content.decode()
    AsyncResult(user.welcome_id).forget()
    assert "Welcome email" not in client.get("/account/").content.decode()


def test_a_welcome_mail_that_is_given_up_is_told_of(db: None, client: Client) -> None:
    user = User.objects.create_user("zoe", "zoe@example.com", "quite-Long-99")
    assert AsyncResult(user.welcome_id).revoke()
    client.force_login(user)
    assert "could not be sent" in client.get("/account/").content.decode()


def test_work_is_enqueued_in_the_name_of_who_asked_for_it(user: User) -> None:
    replace_avatar(user, ContentFile(pictures.jpeg(), "me.jpg"))
    assert Task.objects.created_by(user).get().task_name == tasks.make_renditions.name
