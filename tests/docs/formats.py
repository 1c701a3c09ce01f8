"""Checks the snippets that are neither Python nor commands, as far as their language allows."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime

import sqlparse
import yaml
from cronsim import CronSim
from django.db import connection, transaction
from django.template import engines

from tests.docs import shell
from tests.docs.snippets import Snippet

MANAGE = re.compile(r"manage\.py\W+(\w.*)")


def check(snippet: Snippet) -> None:
    """Raises whatever is wrong."""
    assert snippet.language, (
        f"{snippet} names no language. Write one after the fence; ```text for a drawing or output."
    )
    assert snippet.language in CHECKS, (
        f"{snippet}: nothing checks {snippet.language!r}. Known are python, {', '.join(CHECKS)}."
    )
    assert snippet.source.strip(), f"{snippet} is empty"
    CHECKS[snippet.language](snippet)


def _nothing(snippet: Snippet) -> None:
    """A drawing, or output."""


def _configuration(snippet: Snippet) -> None:
    # As systemd and supervisord read it: some names stand more than once, none has a value in %.
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, allow_no_value=True, inline_comment_prefixes=None
    )
    parser.read_string(snippet.source)
    assert parser.sections(), f"{snippet} has no section"
    _commands_inside(snippet)


def _toml(snippet: Snippet) -> None:
    assert tomllib.loads(snippet.source)


def _json(snippet: Snippet) -> None:
    json.loads(snippet.source)


def _yaml(snippet: Snippet) -> None:
    assert all(part is not None for part in yaml.safe_load_all(snippet.source))
    _commands_inside(snippet)


def _template(snippet: Snippet) -> None:
    engines["django"].from_string(snippet.source)


def _procfile(snippet: Snippet) -> None:
    for line in snippet.source.splitlines():
        found = re.fullmatch(r"(\w+): (.+)", line)
        assert found, f"{snippet}: no `name: command` in {line!r}"
        for words in shell.split(found[2]):
            shell.check_command(words)


def _environment(snippet: Snippet) -> None:
    """A ``.env``: assignments alone."""
    for words in shell.commands_of(snippet):
        assert all("=" in word for word in words), f"{snippet}: {words} assigns nothing"
        shell.check_command(words)


def _crontab(snippet: Snippet) -> None:
    for line in snippet.source.splitlines():
        if line.strip() and not line.startswith("#") and not shell.ASSIGNMENT.fullmatch(line):
            CronSim(" ".join(line.split(None, 5)[:5]), datetime.now(UTC))
    _commands_inside(snippet)


def _sql(snippet: Snippet) -> None:
    """Run it and roll it back, on the database that it is for."""
    statements = sqlparse.split(snippet.source)
    assert statements
    if snippet.remarks.get("only", connection.vendor) != connection.vendor:
        return  # the tests on the other database run it
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        transaction.set_rollback(True)


def _commands_inside(snippet: Snippet) -> None:
    """Whatever the language: a ``manage.py`` in it is called with options that it knows."""
    for command in MANAGE.findall(snippet.source):
        for words in shell.split(re.sub(r"[\[\]\",]", " ", command)):
            shell.RULES["manage.py"](words)
            break


CHECKS: dict[str, Callable[[Snippet], None]] = {
    "bash": shell.check,
    "console": shell.check,
    "sh": shell.check,
    "crontab": _crontab,
    "diff": _commands_inside,
    "django": _template,
    "dockerfile": _commands_inside,
    "env": _environment,
    "html": _template,
    "ini": _configuration,
    "json": _json,
    "nginx": _commands_inside,
    "procfile": _procfile,
    "sql": _sql,
    "systemd": _configuration,
    "text": _nothing,
    "toml": _toml,
    "yaml": _yaml,
}
