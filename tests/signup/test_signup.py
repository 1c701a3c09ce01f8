from __future__ import annotations

import re
import sys
import threading
import unicodedata
from typing import Any

import pytest
from background_task.models import Task
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client

from signup import registration
from signup.models import Avatar, User
from tests.conftest import queued, stored
from tests.harness import pictures

PASSWORD = "quite-Long-99"


def form(**changes: Any) -> dict[str, Any]:
    fields = {
        "username": "zoe",
        "email": "zoe@example.com",
        "password1": PASSWORD,
        "password2": PASSWORD,
    }
    return fields | changes


def upload(name: str = "me.jpg", content: bytes | None = None) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, pictures.jpeg() if content is None else content)


def assert_nothing_happened() -> None:
    assert not User.objects.exists()
    assert queued() == []
    assert stored() == []


@pytest.mark.django_db
def test_a_signup_signs_in_and_redirects_to_the_account_with_a_message(client: Client) -> None:
    response = client.post("/signup/", form(), follow=True)
    assert response.redirect_chain == [("/account/", 302)]
    assert response.context["user"].username == "zoe"
    assert "User registered" in response.content.decode()


@pytest.mark.django_db
def test_a_signup_queues_the_welcome_mail_and_stores_an_argon2_hash(client: Client) -> None:
    client.post("/signup/", form())
    user = User.objects.get()
    assert user.password.startswith("argon2")
    assert queued() == [("send_welcome_email", [user.pk])]


@pytest.mark.django_db
def test_email_and_avatar_are_optional(client: Client) -> None:
    assert client.post("/signup/", form(email="")).status_code == 302
    assert not Avatar.objects.exists()


@pytest.mark.django_db
def test_a_signup_with_an_avatar_stores_the_original_and_queues_its_renditions(
    client: Client,
) -> None:
    client.post("/signup/", form(avatar=upload()))
    avatar = Avatar.objects.get()
    assert avatar.state == Avatar.State.PENDING
    assert stored() == [f"originals/{avatar.pk}"]
    assert queued("make_renditions") == [("make_renditions", [str(avatar.pk)])]


@pytest.mark.django_db
def test_one_who_is_signed_in_is_sent_to_the_account(client: Client, user: User) -> None:
    client.force_login(user)
    assert client.get("/signup/").headers["Location"] == "/account/"


INVISIBLE = ["\u115f", "\u1160", "\u3164", "\uffa0", "\U00013441", "\U00013442"]


def test_every_letter_of_which_nothing_is_seen_is_known() -> None:
    letters = (chr(code) for code in range(sys.maxunicode + 1) if chr(code).isalnum())
    unseen = [c for c in letters if re.search("FILLER|BLANK|INVISIBLE", unicodedata.name(c, ""))]
    assert len(unseen) >= 4
    assert set(unseen) <= set(INVISIBLE)


@pytest.mark.parametrize("character", INVISIBLE)
@pytest.mark.parametrize("name", ["%s", "zo%se", "zoe%s", "%szoe"])
def test_a_name_with_an_invisible_letter_is_refused_at_every_door(
    client: Client, db: None, name: str, character: str
) -> None:
    name = name % character
    signup = client.post("/signup/", form(username=name)).context["form"].errors
    client.force_login(User.objects.create_superuser("boss"))
    added = client.post("/admin/signup/user/add/", {"username": name})
    with pytest.raises(ValidationError):
        User._meta.get_field("username").clean(name, None)
    assert "username" in signup
    assert "username" in added.context["adminform"].form.errors
    assert not User.objects.exclude(username="boss").exists()


def test_a_refused_name_says_which_letter_cannot_be_seen(client: Client, db: None) -> None:
    page = client.post("/signup/", form(username="zo\u3164e")).content.decode()
    assert "invisible character (U+1160)" in page  # as its compatible form, by which names compare


@pytest.mark.django_db
@pytest.mark.parametrize("case", pictures.HOSTILE)
def test_a_hostile_picture_is_refused_and_nothing_saved(client: Client, case: str) -> None:
    name, content, reason = pictures.HOSTILE[case]
    response = client.post("/signup/", form(avatar=upload(name, content)))
    assert response.status_code == 200
    assert reason in " ".join(response.context["form"].errors["avatar"])
    assert_nothing_happened()


BAD_FIELDS = {
    "weak password": ({"password1": "123", "password2": "123"}, "password2"),
    "password like the name": ({"username": "samantha77", "password1": "samantha77!",
                                "password2": "samantha77!"}, "password2"),
    "two passwords": ({"password2": "quite-Long-98"}, "password2"),
    "no username": ({"username": ""}, "username"),
    "newline in username": ({"username": "zo\ne"}, "username"),
    "newline after username": ({"username": "zoe\n"}, "username"),
    "line separator after username": ({"username": "zoe\u2028"}, "username"),
    "null in username": ({"username": "zo\x00e"}, "username"),
    "newline in email": ({"email": "zoe@example.com\nBcc: all@example.com"}, "email"),
    "newline after email": ({"email": "zoe@example.com\r\n"}, "email"),
    "no email address": ({"email": "zoe"}, "email"),
    "endless username": ({"username": "z" * 10_000}, "username"),
    "endless email": ({"email": "z" * 10_000 + "@example.com"}, "email"),
    "endless password": ({"password1": "zY1-" * 2500, "password2": "zY1-" * 2500}, "password2"),
    "markup as username": ({"username": "<script>"}, "username"),
}  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("case", BAD_FIELDS)
def test_a_bad_field_is_refused_by_name_and_nothing_saved(client: Client, case: str) -> None:
    changes, field = BAD_FIELDS[case]
    response = client.post("/signup/", form(avatar=upload(), **changes))
    assert response.status_code == 200
    assert list(response.context["form"].errors) == [field]
    assert_nothing_happened()


@pytest.mark.django_db
def test_a_taken_username_is_refused_in_any_case(client: Client, user: User) -> None:
    response = client.post("/signup/", form(username="ZOE", avatar=upload()))
    assert "already exists" in response.context["form"].errors["username"][0]
    assert (User.objects.count(), queued(), stored()) == (1, [], [])


@pytest.mark.django_db
def test_a_taken_email_is_not_told(client: Client, user: User) -> None:
    assert client.post("/signup/", form(username="ben")).status_code == 302


@pytest.mark.django_db
def test_a_form_without_its_csrf_token_is_refused() -> None:
    response = Client(enforce_csrf_checks=True).post("/signup/", form(avatar=upload()))
    assert response.status_code == 403
    assert "This form has expired" in response.content.decode()
    assert_nothing_happened()


@pytest.mark.django_db
def test_p1_a_signup_that_rolls_back_leaves_no_user_no_row_no_file(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        assert User.objects.exists()  # it is the transaction that takes all this back
        assert queued()
        assert stored()
        raise RuntimeError("the last step of the transaction failed")

    monkeypatch.setattr(registration, "make_renditions", fail)
    with pytest.raises(RuntimeError):
        client.post("/signup/", form(avatar=upload()))
    assert_nothing_happened()


@pytest.mark.django_db(transaction=True)
def test_p1_a_user_saved_outside_any_transaction_rolls_back_with_its_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the queue cannot be written")

    monkeypatch.setattr("signup.tasks.send_welcome_email", fail)
    with pytest.raises(RuntimeError):
        User.objects.create_user("zoe")
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("names", [("zoe", "zoe"), ("zoe", "ZOE")])
def test_of_two_signups_of_one_name_at_the_same_moment_one_is_told(
    names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both_checked = threading.Barrier(2, timeout=20)
    register = registration.register

    def register_together(form: Any) -> User:
        both_checked.wait()  # each form has been found valid by now
        return register(form)

    monkeypatch.setattr("signup.views.register", register_together)
    responses: list[Any] = []

    def sign_up(name: str) -> None:
        try:
            responses.append(Client().post("/signup/", form(username=name, avatar=upload())))
        finally:
            connection.close()

    threads = [threading.Thread(target=sign_up, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(response.status_code for response in responses) == [200, 302]
    [refused] = [response for response in responses if response.status_code == 200]
    assert "already exists" in refused.context["form"].errors["username"][0]
    assert User.objects.count() == 1
    assert len(queued("send_welcome_email")) == len(queued("make_renditions")) == len(stored()) == 1


@pytest.mark.django_db
def test_signups_of_one_address_are_throttled(client: Client, settings: Any) -> None:
    settings.RATELIMIT_ENABLE = True
    settings.SIGNUP_RATE = "2/h"
    codes = [client.post("/signup/", form(username="")).status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    assert client.get("/signup/").status_code == 200
    other = client.post("/signup/", form(), REMOTE_ADDR="10.1.2.3")
    assert other.status_code == 302
    limited = client.post("/signup/", form(username="ben"))
    assert limited.status_code == 429
    assert "Too many tries" in limited.content.decode()
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_the_form_keeps_what_was_typed_but_no_password(client: Client) -> None:
    page = client.post("/signup/", form(username="z oe")).content.decode()
    assert 'value="z oe"' in page
    assert PASSWORD not in page


@pytest.mark.django_db
def test_the_cursor_stands_where_something_is_wrong(client: Client) -> None:
    page = client.post("/signup/", form(password2="other")).content.decode()
    [field] = re.findall(r"<input[^>]* autofocus[^>]*>", page)
    assert 'name="password1"' in field  # browsers get no passwords back
    assert "Look at what is marked" in page


@pytest.mark.django_db
def test_what_a_password_must_be_like_is_one_line(client: Client) -> None:
    page = client.get("/signup/").content.decode()
    assert "At least 8 characters, and hard to guess" in page
    assert "<ul>" not in page


@pytest.mark.django_db
def test_without_javascript_a_picture_that_is_lost_is_asked_for_again(client: Client) -> None:
    upload = SimpleUploadedFile("me.jpg", pictures.jpeg())
    page = client.post("/signup/", form(username="z oe", avatar=upload)).content.decode()
    assert "Please choose your picture again." in page
    assert "hx-preserve" not in page


@pytest.mark.django_db
def test_sent_by_htmx_the_form_leads_on_and_its_picture_stays_after_an_error(
    client: Client,
) -> None:
    headers = {"HX-Request": "true"}
    page = client.post("/signup/", form(username="z oe"), headers=headers).content.decode()
    assert re.search(r'<input type="file"[^>]* hx-preserve', page)
    response = client.post("/signup/", form(), headers=headers)
    assert (response.status_code, response.headers["HX-Redirect"]) == (200, "/account/")


@pytest.mark.django_db
def test_finding_a_name_reads_its_index_and_not_every_user(client: Client) -> None:
    plan = User.objects.named("zoe").explain()
    if connection.vendor == "sqlite":
        assert "signup_user_username_ci" in plan
    else:
        assert "lower((username)::text)" in plan  # a table this small is read whole


@pytest.mark.django_db
def test_no_row_of_a_signup_holds_a_secret(client: Client) -> None:
    client.post("/signup/", form(avatar=upload()))
    for row in Task.objects.all():
        assert PASSWORD not in row.task_params
        assert User.objects.get().password not in row.task_params
