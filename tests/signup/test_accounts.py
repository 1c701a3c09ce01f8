from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from unicodedata import normalize

import pytest
from background_task.models import CompletedTask
from django.apps import apps
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.sessions.models import Session
from django.core import mail
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from django.utils.http import urlsafe_base64_encode

from bgtasks.models import Progress
from signup.models import Avatar, User
from signup.registration import replace_avatar
from signup.tasks import send_welcome_email
from tests.conftest import queued, run_queued, stored
from tests.harness import pictures

pytestmark = pytest.mark.django_db


def test_the_account_is_for_those_who_logged_in(client: Client) -> None:
    assert client.get("/account/").headers["Location"] == "/login/?next=/account/"
    assert client.get("/account/avatar/").status_code == 302


@pytest.mark.parametrize(
    "address",
    [
        "/", "/account/", "/account/avatar/", "/account/welcome/", "/account/password/",
        "/reports/", "/nope/", "/admin/",
    ],
)  # fmt: skip
def test_what_somebody_sees_who_is_logged_in_is_stored_nowhere(
    client: Client, user: User, address: str
) -> None:
    User.objects.update(is_staff=True, is_superuser=True)
    client.force_login(user)
    policy = client.get(address).headers["Cache-Control"]
    assert {"no-store", "private"} <= set(policy.split(", "))


@pytest.mark.parametrize("address", ["/", "/signup/", "/nope/"])
def test_what_everybody_sees_may_be_stored(client: Client, address: str) -> None:
    assert not client.get(address).has_header("Cache-Control")


def test_without_a_picture_there_is_a_placeholder_and_no_polling(
    client: Client, user: User
) -> None:
    client.force_login(user)
    page = client.get("/account/").content.decode()
    assert 'class="placeholder"' in page
    assert "hx-get" not in page


def test_while_the_picture_is_made_the_page_polls_and_reloads_without_javascript(
    client: Client, user: User
) -> None:
    client.force_login(user)
    replace_avatar(user, ContentFile(pictures.jpeg(), "me.jpg"))
    Progress.objects.create(
        task_id=user.avatar.task_id, attempt=0, done=1, total=2, updated_at=timezone.now()
    )
    page = client.get("/account/").content.decode()
    assert 'hx-get="/account/avatar/"' in page
    assert 'value="50"' in page
    assert '<noscript><meta http-equiv="refresh"' in page


def test_a_ready_picture_is_shown_and_served_to_anybody_who_has_its_address(
    client: Client, user: User
) -> None:
    client.force_login(user)
    replace_avatar(user, ContentFile(pictures.jpeg(), "me.jpg"))
    run_queued()
    fragment = client.get("/account/avatar/").content.decode()
    assert "hx-get" not in fragment
    addresses = re.findall(r"/pictures/\S+\.webp", fragment)
    assert len(set(addresses)) == 3
    for address in addresses:
        response = Client().get(address)
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "image/webp"
        assert "max-age=86400" in response.headers["Cache-Control"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_original_has_no_address(client: Client, user: User) -> None:
    client.force_login(user)
    replace_avatar(user, ContentFile(pictures.jpeg(), "me.jpg"))
    key = Avatar.objects.get().pk
    for address in (
        f"/originals/{key}",
        f"/media/originals/{key}",
        f"/pictures/{key}/1.webp",
        f"/pictures/{key}/512.webp",
        "/pictures/../originals/1/64.webp",
    ):
        assert client.get(address).status_code == 404


def test_a_failed_picture_says_why(client: Client, user: User) -> None:
    Avatar.objects.create(user=user, state=Avatar.State.FAILED, error="It was broken.")
    client.force_login(user)
    assert "It was broken." in client.get("/account/avatar/").content.decode()


def test_a_picture_can_be_changed(client: Client, user: User) -> None:
    client.force_login(user)
    upload = SimpleUploadedFile("me.jpg", pictures.jpeg())
    assert client.post("/account/", {"avatar": upload}).status_code == 302
    assert Avatar.objects.get().user == user


@pytest.mark.parametrize("case", pictures.HOSTILE)
def test_a_hostile_picture_changes_nothing(client: Client, user: User, case: str) -> None:
    client.force_login(user)
    name, content, reason = pictures.HOSTILE[case]
    response = client.post("/account/", {"avatar": SimpleUploadedFile(name, content)})
    assert reason in response.content.decode()
    assert (Avatar.objects.count(), queued(), stored()) == (0, [], [])


def test_uploads_are_throttled_by_user(client: Client, user: User, settings: Any) -> None:
    settings.RATELIMIT_ENABLE = True
    settings.UPLOAD_RATE = "1/h"
    client.force_login(user)
    codes = [client.post("/account/").status_code for _ in range(2)]
    assert codes == [200, 429]


def test_a_picture_can_be_removed(client: Client, user: User) -> None:
    client.force_login(user)
    replace_avatar(user, ContentFile(pictures.jpeg(), "me.jpg"))
    run_queued()
    assert client.get("/account/avatar/remove/").status_code == 405
    assert client.post("/account/avatar/remove/").headers["Location"] == "/account/"
    run_queued()
    assert (Avatar.objects.count(), stored()) == (0, [])


def test_the_old_picture_is_shown_while_the_new_one_is_made(client: Client, user: User) -> None:
    client.force_login(user)
    replace_avatar(user, ContentFile(pictures.jpeg(), "me.jpg"))
    run_queued()
    before = re.findall(r"/pictures/\S+\.webp", client.get("/account/avatar/").content.decode())
    replace_avatar(user, ContentFile(pictures.jpeg(), "me.jpg"))
    page = client.get("/account/avatar/").content.decode()
    assert re.findall(r"/pictures/\S+\.webp", page) == before
    assert "Your new picture is being prepared" in page
    assert Client().get(before[0]).status_code == 200
    run_queued()
    assert before[0] not in client.get("/account/avatar/").content.decode()


def test_a_mail_that_fails_is_told_from_one_under_way(
    client: Client, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    User.objects.update(welcome_id=send_welcome_email(user.pk).pk)
    client.force_login(user)
    assert "on its way" in client.get("/account/welcome/").content.decode()

    def refuse(*args: Any) -> int:
        raise ConnectionRefusedError

    monkeypatch.setattr(mail.EmailMessage, "send", refuse)
    run_queued()
    page = client.get("/account/welcome/").content.decode()
    assert "not sent yet" in page
    assert "hx-get" in page


@pytest.mark.parametrize(
    ("form", "cursor"),
    [
        ({"old_password": "wrong"}, "old_password"),
        ({"old_password": "quite-Long-99", "new_password1": "1"}, "old_password"),
    ],
)
def test_after_an_error_the_cursor_is_where_something_is_missing(
    client: Client, user: User, form: dict[str, str], cursor: str
) -> None:
    page = client.post("/login/", {"username": "zoe", "password": "wrong"}).content.decode()
    assert cursors(page) == ["password"]
    assert "Please try again." in page  # and not: look at what is marked
    client.force_login(user)
    assert cursors(client.post("/account/password/", form).content.decode()) == [cursor]


def cursors(page: str) -> list[str]:
    fields = re.findall(r"<input[^>]* autofocus[^>]*>", page)
    return [re.findall(r'name="(\w+)"', field)[0] for field in fields]


def test_a_page_that_is_not_for_this_account_says_why(client: Client, user: User) -> None:
    client.force_login(user)
    page = client.get("/reports/").content.decode()
    assert "You are logged in as zoe, and this account lacks the permission" in page


def test_a_picture_that_takes_long_says_so(client: Client, user: User) -> None:
    client.force_login(user)
    replace_avatar(user, ContentFile(pictures.jpeg(), "me.jpg"))
    assert "longer than usual" not in client.get("/account/avatar/").content.decode()
    Avatar.objects.update(created_at=timezone.now() - timedelta(minutes=1))
    assert "longer than usual" in client.get("/account/avatar/").content.decode()


def test_a_name_logs_in_in_any_case(client: Client, user: User) -> None:
    response = client.post("/login/", {"username": "ZOE", "password": "quite-Long-99"})
    assert response.headers["Location"] == "/account/"


def test_login_and_logout(client: Client, user: User) -> None:
    response = client.post("/login/", {"username": "zoe", "password": "quite-Long-99"})
    assert response.headers["Location"] == "/account/"
    assert client.post("/logout/").headers["Location"] == "/"
    assert client.get("/account/").status_code == 302


def test_a_failed_login_does_not_tell_which_names_exist(client: Client, user: User) -> None:
    pages = []
    for name in ("zoe", "nobody"):
        page = client.post("/login/", {"username": name, "password": "wrong"})
        assert page.status_code == 200
        text = page.content.decode().replace(name, "NAME")
        pages.append(re.sub(r'value="\w{64}"', "", text))  # the CSRF token
    assert pages[0] == pages[1]


@pytest.mark.parametrize("address", ["/login/", "/admin/login/"])
def test_logins_are_throttled(client: Client, user: User, settings: Any, address: str) -> None:
    settings.RATELIMIT_ENABLE = True
    settings.LOGIN_RATE = "1/h"
    wrong = {"username": "zoe", "password": "wrong"}
    assert [client.post(address, wrong).status_code for _ in range(2)] == [200, 429]


def attempt(client: Client, name: str, password: str = "wrong", **more: Any) -> int:
    return client.post("/login/", {"username": name, "password": password}, **more).status_code


@pytest.fixture
def one_a_name(settings: Any) -> None:
    """The throttle, which lets each name be tried once an hour."""
    settings.RATELIMIT_ENABLE = True
    settings.LOGIN_NAME_RATE = "1/h"


@pytest.mark.parametrize("again", ["zoe", "ZOE", " zoe ", "\uff5aoe"])
def test_a_name_is_throttled_wherever_its_attempts_come_from(
    user: User, one_a_name: None, again: str
) -> None:
    assert attempt(Client(), "zoe", REMOTE_ADDR="10.0.0.1") == 200
    assert attempt(Client(), again, REMOTE_ADDR="10.0.0.2") == 429
    assert attempt(Client(), "ben", REMOTE_ADDR="10.0.0.2") == 200


def test_a_stranger_who_tries_a_name_does_not_shut_out_its_owner(
    user: User, one_a_name: None
) -> None:
    owner, stranger = Client(), Client()
    assert attempt(owner, "zoe", "quite-Long-99") == 302
    owner.post("/logout/")
    assert [attempt(stranger, "zoe") for _ in range(3)] == [429] * 3
    assert attempt(owner, "zoe", "quite-Long-99") == 302


def test_who_reads_the_accounts_mail_gets_in_while_a_stranger_tries_its_name(
    client: Client, user: User, one_a_name: None
) -> None:
    assert [attempt(Client(), "zoe") for _ in range(2)] == [200, 429]
    assert attempt(client, "zoe", "quite-Long-99") == 429
    client.post("/password/reset/", {"email": "zoe@example.com"})
    run_queued()
    [link] = re.findall(r"http://testserver(/password/reset/\S+)", mail.outbox[0].body)
    form = client.get(link, follow=True).redirect_chain[-1][0]
    client.post(form, {"new_password1": "another-Long-77", "new_password2": "another-Long-77"})
    assert attempt(client, "zoe", "another-Long-77") == 302


def test_who_has_just_signed_up_is_known(client: Client, settings: Any, one_a_name: None) -> None:
    fields = {"username": "Ada", "email": "a@example.com", "password1": "quite-Long-99"}
    client.post("/signup/", fields | {"password2": "quite-Long-99"})
    client.post("/logout/")
    assert [attempt(Client(), "ada") for _ in range(2)] == [200, 429]
    assert attempt(client, "ada", "quite-Long-99") == 302


@pytest.mark.parametrize("forged", ["mark 1 0", "mark zoe:1:signature", "", ":"])
def test_a_browser_is_known_by_our_signature_alone(
    client: Client, user: User, one_a_name: None, forged: str
) -> None:
    client.cookies["known_browser"] = forged
    assert [attempt(client, "zoe") for _ in range(2)] == [200, 429]


# Letters whose lower case is another one in Python than in PostgreSQL or SQLite, or two letters.
@pytest.mark.parametrize(
    "name", ["zoe", "\u0130da", "ida", "\u212aai", "Stra\u1e9ee", "\u0438\u0440"]
)
def test_every_spelling_by_which_a_name_logs_in_is_throttled_as_one(
    user: User, one_a_name: None, name: str
) -> None:
    User.objects.exclude(pk=user.pk).delete()
    owner = User.objects.named(name).first() or User.objects.create_user(
        normalize("NFKC", name), "owner@example.com", "quite-Long-99"
    )
    spellings = {name, name.upper(), name.lower(), name.swapcase(), name.replace("i", "\u0130")}
    lets_in = [each for each in spellings if authenticates(each, owner)]
    assert lets_in
    codes = [attempt(Client(), each) for each in [*lets_in, *lets_in]]
    assert codes == [200] + [429] * (len(codes) - 1)


def authenticates(name: str, user: User) -> bool:
    form = AuthenticationForm(data={"username": name, "password": "quite-Long-99"})
    return form.is_valid() and form.get_user() == user


@pytest.mark.parametrize("name", ["nobody", "", "z\0oe", "z" * 200])
def test_a_name_of_nobody_is_not_counted(user: User, one_a_name: None, name: str) -> None:
    assert [attempt(Client(), name) for _ in range(3)] == [200] * 3
    assert attempt(Client(), "zoe") == 200


@pytest.mark.parametrize("name", ["\u0438\u0440\u0438\u043d\u0430", "\u674e", "zo\u00eb", "zoe"])
def test_cookies_are_of_letters_that_a_header_can_hold(client: Client, name: str) -> None:
    def cookies_of(response: Any) -> list[str]:
        for cookie in response.cookies.values():
            cookie.output().encode("ascii")
        return list(response.cookies)

    password = {"password1": "quite-Long-99", "password2": "quite-Long-99"}
    fields = {"username": name, "email": "me@example.com"} | password
    assert "known_browser" in cookies_of(client.post("/signup/", fields))
    client.post("/logout/")
    credentials = {"username": name, "password": "quite-Long-99"}
    assert "known_browser" in cookies_of(client.post("/login/", credentials))
    assert "known_browser" not in cookies_of(client.get("/account/"))
    new = {"new_password1": "another-Long-77", "new_password2": "another-Long-77"}
    change = {"old_password": "quite-Long-99"} | new
    assert "known_browser" in cookies_of(client.post("/account/password/", change))
    run_queued()
    client.post("/logout/")
    client.post("/password/reset/", {"email": "me@example.com"})
    run_queued()
    [link] = re.findall(r"http://testserver(/password/reset/\S+)", mail.outbox[-1].body)
    opened = client.get(link)
    assert "password_reset" in cookies_of(opened)
    assert "known_browser" in cookies_of(client.post(opened.headers["Location"], new))


def test_who_is_logged_in_already_becomes_known_by_any_page(
    client: Client, user: User, one_a_name: None
) -> None:
    client.force_login(user)
    assert "known_browser" in client.get("/").cookies
    assert "known_browser" not in client.get("/").cookies
    client.post("/logout/")
    assert [attempt(Client(), "zoe") for _ in range(2)] == [200, 429]
    assert attempt(client, "zoe", "quite-Long-99") == 302


@pytest.mark.parametrize("address", ["/", "/login/", "/signup/", "/nope/"])
def test_who_is_not_logged_in_becomes_not_known(client: Client, user: User, address: str) -> None:
    assert "known_browser" not in client.get(address).cookies


def test_a_change_of_the_password_ends_what_was_known_before_and_keeps_this_browser(
    client: Client, user: User, one_a_name: None
) -> None:
    other = Client()
    for each in (client, other):
        each.force_login(user)
        each.get("/")
    new = {"new_password1": "another-Long-77", "new_password2": "another-Long-77"}
    client.post("/account/password/", {"old_password": "quite-Long-99"} | new)
    client.post("/logout/")
    assert attempt(other, "zoe") == 200
    assert attempt(Client(), "zoe") == 429, "the other browser was counted as a stranger"
    assert attempt(client, "zoe", "another-Long-77") == 302


def test_who_is_logged_in_gets_no_further_tries_by_deleting_the_cookie(
    client: Client, user: User, one_a_name: None
) -> None:
    client.force_login(user)
    client.get("/")
    first = client.cookies["known_browser"].value.split(" ")[0]
    del client.cookies["known_browser"]
    client.get("/")
    assert client.cookies["known_browser"].value.split(" ")[0] == first


def test_the_owner_of_an_account_without_an_address_gets_in_slowly(
    user: User, one_a_name: None, settings: Any
) -> None:
    settings.LOGIN_NO_EMAIL_RATE = "2/h"
    User.objects.update(email="")
    assert attempt(Client(), "zoe", REMOTE_ADDR="10.0.0.1") == 200
    stranger = [attempt(Client(), "zoe", REMOTE_ADDR="10.0.0.1") for _ in range(4)]
    assert stranger == [200, 200, 429, 429]
    assert attempt(Client(), "zoe", "quite-Long-99", REMOTE_ADDR="10.0.0.2") == 302


def test_a_name_and_an_address_are_counted_for_each_name(user: User, one_a_name: None) -> None:
    User.objects.create_user("ben", password="quite-Long-99")
    User.objects.update(email="")
    assert [attempt(Client(), "zoe") for _ in range(7)] == [200] * 6 + [429]
    assert [attempt(Client(), "ben") for _ in range(7)] == [200] * 6 + [429]


@pytest.mark.parametrize(
    ("address", "rate", "log_in", "link"),
    [
        ("/login/", "LOGIN_RATE", True, True),
        ("/admin/login/", "LOGIN_RATE", True, True),
        ("/password/reset/", "PASSWORD_RESET_RATE", False, True),
        ("/signup/", "SIGNUP_RATE", False, False),
    ],
)
def test_who_is_throttled_reads_what_else_lets_them_in(
    client: Client, user: User, settings: Any, address: str, rate: str, log_in: bool, link: bool
) -> None:
    settings.RATELIMIT_ENABLE = True
    setattr(settings, rate, "0/h")
    response = client.post(address, {"username": "zoe", "password": "a", "email": "a@example.com"})
    page = response.content.decode()
    assert response.status_code == 429
    assert ("somebody else try to log in" in page) is log_in
    assert ("got one that you did not ask for" in page) is link


def test_a_strange_address_of_a_reset_adds_nothing_to_its_cookie(client: Client) -> None:
    response = client.get("/password/reset/a;Domain=example.com/set-password/")
    assert response.cookies["password_reset"]["path"].count(";") == 0


def test_a_browser_is_known_for_its_own_name_only_and_is_throttled_too(
    client: Client, user: User, one_a_name: None
) -> None:
    User.objects.create_user("ben", "ben@example.com", "quite-Long-99")
    assert attempt(client, "zoe", "quite-Long-99") == 302
    client.post("/logout/")
    assert [attempt(client, "ben") for _ in range(2)] == [200, 429]
    assert [attempt(client, "zoe") for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("address", ["/account/password/", "/admin/password_change/"])
def test_guesses_of_the_old_password_are_throttled_by_user(
    client: Client, settings: Any, user: User, address: str
) -> None:
    settings.RATELIMIT_ENABLE = True
    settings.PASSWORD_CHANGE_RATE = "1/h"
    User.objects.update(is_staff=True)
    client.force_login(user)
    wrong = {"old_password": "wrong", "new_password1": "a", "new_password2": "a"}
    assert [client.post(address, wrong).status_code for _ in range(2)] == [200, 429]
    client.force_login(User.objects.create_user("ben", password="quite-Long-99", is_staff=True))
    assert client.post(address, wrong).status_code == 200


def test_all_networks_of_one_customer_are_one_address(user: User, settings: Any) -> None:
    settings.RATELIMIT_ENABLE = True
    settings.LOGIN_RATE = "1/h"
    assert attempt(Client(), "zoe", REMOTE_ADDR="2001:db8:7:1::1") == 200
    assert attempt(Client(), "zoe", REMOTE_ADDR="2001:db8:7:ffff::1") == 429
    assert attempt(Client(), "zoe", REMOTE_ADDR="2001:db8:8:1::1") == 200


def test_a_password_reset_does_the_same_for_every_address(
    client: Client, user: User, django_assert_num_queries: Any
) -> None:
    pages = []
    for email in ("zoe@example.com", "nobody@example.com"):
        with django_assert_num_queries(1) as queries:  # the row
            response = client.post("/password/reset/", {"email": email})
        assert "INSERT INTO" in queries.captured_queries[0]["sql"]
        assert response.headers["Location"] == "/password/reset/sent/"
        pages.append(client.get("/password/reset/sent/").content)
    assert pages[0] == pages[1]
    assert queued() == [
        ("send_password_reset", ["zoe@example.com"]),
        ("send_password_reset", ["nobody@example.com"]),
    ]
    run_queued()
    assert [sent.to for sent in mail.outbox] == [["zoe@example.com"]]


def test_the_link_of_a_password_reset_works_once_and_stands_in_no_row(
    client: Client, user: User
) -> None:
    client.post("/password/reset/", {"email": "zoe@example.com"})
    run_queued()
    [sent] = mail.outbox
    [link] = re.findall(r"http://testserver(/password/reset/\S+)", sent.body)
    token = link.split("/")[-2]
    assert link in sent.alternatives[0].content

    session = client.session
    session["visited"] = "before"
    session.save()
    form = client.get(link, follow=True)
    assert "Choose a new password" in form.content.decode()
    assert all(token not in row for row in all_rows())
    new = {"new_password1": "another-Long-77", "new_password2": "another-Long-77"}
    done = client.post(form.redirect_chain[-1][0], new, follow=True)
    assert "Password changed" in done.content.decode()
    assert client.login(username="zoe", password="another-Long-77")
    again = Client().get(link, follow=True)
    assert "This link does not work any more" in again.content.decode()


def all_rows() -> list[str]:
    """Every row of the database as text, and what the sessions' rows contain."""
    rows = [str(row) for model in apps.get_models() for row in model._base_manager.values()]
    return rows + [str(row.get_decoded()) for row in Session.objects.all()]


def test_the_link_of_a_password_reset_lets_only_that_browser_in_and_only_for_that_user(
    client: Client, user: User
) -> None:
    client.post("/password/reset/", {"email": "zoe@example.com"})
    run_queued()
    [link] = re.findall(r"http://testserver(/password/reset/\S+)", mail.outbox[0].body)
    form = client.get(link).headers["Location"]
    cookie = client.cookies["password_reset"]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == (form, True, "Lax")
    assert "does not work" in Client().get(form).content.decode()
    ben = User.objects.create_user("ben", "ben@example.com", "quite-Long-99")
    other = form.replace(
        f"/{urlsafe_base64_encode(b'%d' % user.pk)}/", f"/{urlsafe_base64_encode(b'%d' % ben.pk)}/"
    )
    assert "does not work" in client.get(other).content.decode()


def test_a_reset_mail_that_cannot_be_sent_is_tried_again(
    client: Client, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> int:
        raise ConnectionRefusedError

    client.post("/password/reset/", {"email": "zoe@example.com"})
    with monkeypatch.context() as patched:
        patched.setattr("django.core.mail.EmailMultiAlternatives.send", refuse)
        run_queued()
    assert queued("send_password_reset")
    assert not CompletedTask.objects.filter(task_name__contains="reset").exists()


def test_password_resets_are_throttled_by_sender_and_by_address(
    client: Client, user: User, settings: Any
) -> None:
    settings.RATELIMIT_ENABLE = True
    settings.PASSWORD_RESET_RATE = "1/h"

    def reset(email: str, sender: str) -> int:
        return client.post("/password/reset/", {"email": email}, REMOTE_ADDR=sender).status_code

    assert reset("zoe@example.com", "10.0.0.1") == 302
    assert reset("ben@example.com", "10.0.0.1") == 429
    assert reset("ZOE@example.com ", "10.0.0.2") == 429
    reset("10.0.0.9", "10.0.0.3")  # an address as text is not the address of a visitor
    assert reset("cleo@example.com", "10.0.0.9") == 302


def test_a_password_can_be_changed(client: Client, user: User) -> None:
    client.force_login(user)
    response = client.post(
        "/account/password/",
        {
            "old_password": "quite-Long-99",
            "new_password1": "another-Long-77",
            "new_password2": "another-Long-77",
        },
        follow=True,
    )
    assert "Password changed" in response.content.decode()
