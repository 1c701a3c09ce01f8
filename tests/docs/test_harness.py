"""What is said of snippets elsewhere is worth nothing if a wrong one passes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from background_task.tasks import tasks as registry
from django.apps import apps
from django.core.management import CommandError
from django.db.models.signals import post_save

from bgtasks.models import Outcome, Task
from bgtasks.tasks import policies
from tests.docs import formats, settings_files, shell
from tests.docs.page import Page
from tests.docs.snippets import Snippet, snippets_of

pytestmark = pytest.mark.any_database

Read = Callable[[str], None]

DECLARED = """
    from bgtasks import background

    @background
    def add(a, b):
        return a + b
"""


def fenced(language: str, *blocks: str) -> str:
    """A page of blocks in one language."""
    return "\n\n".join(f"```{language}\n{dedent(block).strip()}\n```" for block in blocks)


def python(*blocks: str) -> str:
    return fenced("python", *blocks)


def shell_of(source: str, language: str = "sh") -> Snippet:
    return Snippet("page.md", 1, language, source)


# --- finding


def test_a_page_of_prose_has_no_snippets(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Title\n\n`code` in a line, and none in a block.\n")
    assert snippets_of("page.md", tmp_path) == []


def test_language_line_and_remarks_are_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "1. One\n\n   <!-- worker -->\n   <!-- not run: for a reason -->\n   ```python x=1\n"
        "   a = 1\n   ```\n\n```\nb\n```\n\n<!-- invisible-code: python\nc = 1\n-->\n"
    )
    listed, bare, hidden = snippets_of("page.md", tmp_path)
    assert (str(listed), listed.language, listed.source) == ("page.md:5", "python", "a = 1\n")
    assert listed.remarks == {"worker": "", "not run": "for a reason"}
    assert (bare.language, bare.is_run) == ("", True)
    assert (hidden.hidden, hidden.language, hidden.source) == (True, "python", "c = 1\n")


# --- Python


def test_a_snippet_that_raises_fails(read: Read) -> None:
    with pytest.raises(ZeroDivisionError):
        read(python("1 / 0"))
    with pytest.raises(SyntaxError):
        read("<!-- not run: it would take long -->\n" + python("def"))


def test_a_failure_is_told_of_its_own_snippet_in_whatever_order_they_run(
    tmp_path: Path, transactional_db: None, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "page.md").write_text(python("one = 1", "two = 1 / 0", "one + two"))
    one, two, three = snippets_of("page.md", tmp_path)
    with Page([one, two, three]) as page:
        with pytest.raises(NameError) as raised:
            page.run(three, request.getfixturevalue)
        assert "page.md:5, which stands before it, failed too" in raised.value.__notes__[0]
        with pytest.raises(ZeroDivisionError):
            page.run(two, request.getfixturevalue)
        page.run(one, request.getfixturevalue)


def test_a_value_that_is_not_the_one_written_fails(read: Read) -> None:
    read(python("4 + 5  # -> 9\nsum([1, 2])  # 4, for all that is checked"))
    for wrong in ("4 + 5  # -> 10", "nine = 4 + 5  # -> 10", "if True:\n    [1, 2]  # -> [1]"):
        with pytest.raises(AssertionError, match="and the page says"):
            read(python(wrong))
    with pytest.raises(AssertionError, match=r"page.md:3: nothing here has a value"):
        read(python("x = 1\npass  # -> 1"))


def test_the_blocks_of_a_page_share_names_rows_and_mails(read: Read) -> None:
    read(
        python(
            DECLARED,
            "from .tasks import add\nrow = add(1, 2)",
            "row.task_name  # -> 'shop.tasks.add'\nadd.now(1, 2)  # -> 3",
            "from bgtasks.models import Task\nTask.objects.count()  # -> 1",
            "from django.core import mail\nmail.outbox.append(1)",
            "mail.outbox  # -> [1]",
        )
    )


def test_await_may_stand_outside_of_functions(read: Read) -> None:
    read(python("from bgtasks.models import Task\nawait Task.objects.acount()  # -> 0"))


def test_nothing_of_a_page_is_left(read: Read) -> None:
    def state() -> list[object]:
        return [
            dict(registry._tasks), dict(policies._policies), len(post_save.receivers),
            list(apps.app_configs), [name for name in sys.modules if name.startswith("shop")],
            Task.objects.filter(task_name__startswith="shop.").count(), Outcome.objects.count(),
        ]  # fmt: skip

    before = state()
    declares = """
        from django.db import models
        from django.db.models.signals import post_save
        from django.dispatch import receiver

        class Order(models.Model):
            name = models.CharField(max_length=9)

        @receiver(post_save, sender=Order)
        def heard(**kwargs): add(1, 2)
    """
    read(python(DECLARED, declares, "Order.objects.create(name='a').pk  # -> 1"))
    assert state() == before


@pytest.mark.parametrize("remark", ["<!-- worker -->\n", ""])
def test_a_worker_runs_what_waits_where_a_page_wants_one(read: Read, remark: str) -> None:
    count = "Outcome.objects.count()  # -> {}"
    imports = "from bgtasks.models import Outcome\n"
    read(
        python(DECLARED, f"{imports}add(1, 2)\n{count.format(0)}")
        + f"\n\n{remark}"
        + python("rows = [add(3, 4), add(5, 6)]")
        + "\n\n"
        + python(count.format(3 if remark else 0))
    )


def test_a_block_that_asks_for_a_result_has_a_worker(read: Read) -> None:
    asks = """
        import time

        class Result:
            def get(self):
                while not Outcome.objects.exists():
                    time.sleep(0.01)
                return Outcome.objects.get().state

        add(1, 2)
        Result().get()  # -> 'succeeded'
    """
    read(python(DECLARED, "from bgtasks.models import Outcome", asks))


def test_tests_that_a_page_declares_are_run(read: Read) -> None:
    with pytest.raises(AssertionError, match="assert 1 == 2"):
        read(python("def test_sum(client):\n    assert client\n    assert 1 == 2, 'assert 1 == 2'"))
    case = """
        from django.test import TestCase

        class SumTest(TestCase):
            def test_sum(self):
                self.assertEqual(1, {})
    """
    read(python(case.format(1)))
    with pytest.raises(AssertionError, match="1 != 2"):
        read(python(case.format(2)))


# --- what is not run


def test_a_snippet_that_is_not_run_wants_a_reason(read: Read) -> None:
    read("<!-- not run: it needs a broker -->\n" + python("1 / 0"))
    with pytest.raises(AssertionError, match="wants a reason"):
        read("<!-- not run: -->\n" + python("1 / 0"))


def test_a_block_without_a_language_fails(read: Read) -> None:
    with pytest.raises(AssertionError, match="names no language"):
        read(fenced("", "anything"))
    with pytest.raises(AssertionError, match="nothing checks 'cobol'"):
        read(fenced("cobol", "anything"))
    with pytest.raises(AssertionError, match="is empty"):
        read(fenced("text", ""))


# --- settings


def test_settings_are_in_force_for_the_rest_of_the_page(read: Read) -> None:
    read(
        python(
            "from datetime import timedelta\nBGTASKS_LEASE = 7\nINSTALLED_APPS = [..., 'bgtasks']",
            "from bgtasks import conf\nconf.lease()  # -> 7.0",
            "'timedelta' in globals()  # -> False",
        )
    )


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("BGTASKS_LEESE = 7", "nobody reads a setting BGTASKS_LEESE"),
        ("RETRY = 7", "nobody reads a setting RETRY"),
        ("INSTALLED_APPS = ['background_task', 'bgtasks']", "bgtasks.E001"),
    ],
)
def test_a_setting_that_nobody_reads_fails(read: Read, wrong: str, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        read(python(wrong))


def test_a_name_of_ours_in_a_setting_must_be_there(read: Read) -> None:
    read(python("EMAIL_BACKEND = 'bgtasks.conf.lease'\nINSTALLED_APPS += ['shop']"))
    with pytest.raises((AttributeError, ImportError)):
        read(python("EMAIL_BACKEND = 'bgtasks.conf.NoBackend'"))


@pytest.mark.parametrize("name", ["MAX_RUN_TIME", "BACKGROUND_TASK_RUN_ASYNC", "BGTASKS_GRACE"])
def test_settings_of_all_three_are_known(name: str) -> None:
    assert settings_files.is_known(name)
    assert not settings_files.is_known(f"{name}S")


# --- commands


@pytest.mark.parametrize(
    "line",
    [
        "make run PORT=8001  # a comment",
        "make && make test",
        "TEST_DATABASE=postgresql .venv/bin/python -m pytest tests/docs",
        "python -m pytest tests/docs -k links",
        "python manage.py process_tasks --processes 2 --queue mail reports > /tmp/log",
        "manage.py prune_tasks --older-than 30",
        "python3 -m venv .venv && . .venv/bin/activate",
        "pip install -r requirements.txt dist/django_bgtasks-*.whl 'Django>=5.2'",
        "python -m uvicorn --app-dir site config.asgi:application --port ${PORT:-8000}",
        "curl -sf http://127.0.0.1:8000/healthz || exit 1",
        "curl https://example.com/account/",
        "kill -TSTP $(cat worker.pid)",
        "DATABASE_URL=postgres://user:password@host:5432/name",
        "pip install \\\n  django-bgtasks",
    ],
)
def test_right_commands_pass(line: str) -> None:
    shell.check(shell_of(line))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("make ruin", "no target ruin"),
        ("make run PORTS=1", "reads no PORTS"),
        ("python manage.py proces_tasks", "no app has a command"),
        ("python manage.py process_tasks --proceses 2", "unrecognized arguments"),
        ("make run; python manage.py process_tasks --threads 0", "not 1 or more"),
        ("pip install -r requirement.txt", "no file requirement.txt"),
        ("pip install bgtasks", "nothing here needs bgtasks"),
        ("pip install 'django-bgtasks[nothing]'", "no extras"),
        ("pip install dist/bgtasks-1.0.whl", "the wheel is called"),
        ("curl http://127.0.0.1:8000/acount/", "no page /acount/"),
        ("kill -STPO 12", "no signal"),
        ("DATABASE_URI=sqlite:///x python manage.py migrate", "nobody reads DATABASE_URI"),
        ("python bench/drian.py", "no file bench/drian.py"),
        ("python -m pytest tests/dogs -k links", "no file tests/dogs"),
        ("python -m no_such_module", "no module no_such_module"),
        ("frobnicate", "no rule for frobnicate"),
        ("# a comment alone", "has no command"),
    ],
)
def test_wrong_commands_fail(line: str, why: str) -> None:
    with pytest.raises((AssertionError, CommandError), match=why):
        shell.check(shell_of(line))


def test_in_a_console_only_the_lines_with_a_prompt_are_commands() -> None:
    shell.check(shell_of("$ make test\nfrobnicated: 3", "console"))
    with pytest.raises(AssertionError, match="has no command"):
        shell.check(shell_of("make test", "console"))


# --- other languages

UNIT = "[Service]\nExecStart=/srv/.venv/bin/python manage.py process_tasks --threads {}\n"


@pytest.mark.parametrize(
    ("language", "right", "wrong", "why"),
    [
        ("ini", UNIT.format(2), UNIT.format("two"), "invalid positive value"),
        ("systemd", UNIT.format(2), "ExecStart", "no section headers"),
        ("toml", "a = 1", "a =", "Invalid value"),
        ("json", "[1]", "[1", "Expecting"),
        ("yaml", "command: [python, manage.py, process_tasks]", "a: [1", "expected"),
        ("yaml", "run: [manage.py, migrate]", "run: [manage.py, migarte]", "no app has"),
        ("procfile", "worker: manage.py process_tasks", "worker: manage.py proces", "no app has"),
        ("dockerfile", 'CMD ["manage.py", "migrate"]', 'CMD ["manage.py", "migarte"]', "no app"),
        ("crontab", "*/5 * * * * manage.py process_tasks", "*/5 * * * 8 true", "Bad day-of-week"),
        ("env", "DEBUG=1", "make test", "assigns nothing"),
        ("html", "{% if a %}{% endif %}", "{% if a %}", "Unclosed tag"),
        ("sql", "SELECT id FROM background_task; SELECT 1", "SELECT id FROM nowhere", "nowhere"),
    ],
)
@pytest.mark.usefixtures("transactional_db")
def test_other_languages_are_parsed(language: str, right: str, wrong: str, why: str) -> None:
    formats.check(Snippet("page.md", 1, language, right))
    with pytest.raises(Exception, match=why):
        formats.check(Snippet("page.md", 1, language, wrong))


def test_sql_is_rolled_back_and_left_to_its_database(read: Read) -> None:
    writes = "INSERT INTO django_content_type (app_label, model) VALUES ('shop', 'order')"
    read(fenced("sql", writes) + "\n\n" + fenced("sql", writes))
    read("<!-- only: oracle -->\n" + fenced("sql", "SELECT 1 FROM dual_control"))
