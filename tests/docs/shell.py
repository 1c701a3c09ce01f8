"""Checks the commands of a snippet without running them: that what they name is there.

A line is split into commands at ``&&``, ``|``, ``;`` and brackets. Each is looked at by the rule
for its program; one without a rule must be in `ELSEWHERE`. In ```` ```console ```` a line that
begins with ``$`` is a command, and the others are output.
"""

from __future__ import annotations

import re
import shlex
import signal
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from urllib.parse import urlsplit

from django.core.management import CommandError, get_commands, load_command_class
from django.urls import Resolver404, resolve
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uvicorn.importer import import_from_string
from uvicorn.main import main as uvicorn

from tests.docs.snippets import ROOT, Snippet

# Programs whose arguments nothing here can be asked about, and why pages name them.
ELSEWHERE = {
    "createdb": "PostgreSQL's own",
    "journalctl": "systemd's own",
    "sudo": "what follows is for the machine's manager",
    "systemctl": "systemd's own",
}
# Packages that pages name and that nothing here depends on.
PACKAGES_ELSEWHERE = {
    "django-storages": "a storage that web server and worker share; theirs to choose",
}
# Where variables of the environment are read.
READERS = ("site/config/settings.py", "tests/settings.py", "tests/harness/needs.py", "manage.py",
           "Makefile", "Procfile", ".ci/run")  # fmt: skip
OPERATORS = re.compile(r"[();<>|&]+")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")
# Options of pip that a value follows.
PIP_VALUES = {"-i", "--index-url", "--find-links", "-c"}


def check(snippet: Snippet) -> None:
    """Raises an AssertionError that names the first command that is wrong."""
    commands = list(commands_of(snippet))
    assert commands, f"{snippet} has no command"
    for command in commands:
        try:
            check_command(command)
        except (AssertionError, CommandError) as error:
            raise AssertionError(f"{snippet}: {shlex.join(command)}: {error}") from None


def commands_of(snippet: Snippet) -> Iterator[list[str]]:
    text = snippet.source.replace("\\\n", " ")
    for line in text.splitlines():
        if snippet.language == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        yield from split(line)


def split(line: str) -> Iterator[list[str]]:
    """The commands of a line, as words."""
    lexer = shlex.shlex(VARIABLE.sub("1", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    words = iter(lexer)
    for word in words:
        if not OPERATORS.fullmatch(word):
            command.append(word)
        elif "<" in word or ">" in word:
            next(words, None)  # the file
        else:
            yield from [command] if command else []
            command = []
    yield from [command] if command else []


def check_command(words: list[str]) -> None:
    words = [word for word in words if word != "export"]
    while words and (match := ASSIGNMENT.fullmatch(words[0])):
        assert is_read(match[1]), f"nobody reads {match[1]} of the environment"
        words = words[1:]
    if not words:
        return
    program = words[0].rpartition("/")[2] or words[0]
    if program in RULES:
        RULES[program](words[1:])
    else:
        assert program in ELSEWHERE, f"no rule for {program}; is it one for ELSEWHERE?"


@cache
def is_read(variable: str) -> bool:
    return any(re.search(rf"\b{variable}\b", (ROOT / name).read_text()) for name in READERS)


# --- rules


def _make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for word in words:
        if match := ASSIGNMENT.fullmatch(word):
            assert re.search(rf"\b{match[1]}\b", makefile), f"the Makefile reads no {match[1]}"
        elif not word.startswith("-"):
            assert word in targets, f"the Makefile has no target {word}"


def _manage(words: list[str]) -> None:
    assert words, "manage.py without a command"
    name, *arguments = words
    app = get_commands().get(name)
    assert app, f"no app has a command {name}"
    command = load_command_class(app, name) if isinstance(app, str) else app
    with suppress(SystemExit):  # of --help; what is wrong raises CommandError
        command.create_parser("manage.py", name).parse_args(arguments)


def _python(words: list[str]) -> None:
    if not words or words[0] in {"-c", "--version"}:
        return
    if words[0] == "-m":
        module, *rest = words[1:]
        if module in MODULES:
            MODULES[module](rest)
        else:
            assert find_spec(module), f"there is no module {module}"
    elif words[0].endswith("manage.py"):
        _manage(words[1:])
    else:
        _file(words[:1])


def _pip(words: list[str]) -> None:
    action, *rest = words
    assert action in {"install", "uninstall"}, f"pip {action}?"
    files = [rest.pop(n + 1) for n in reversed(range(len(rest))) if rest[n] in {"-r", *PIP_VALUES}]
    _file([name for name in files if name.endswith(".txt")])
    for word in rest:
        if not word.startswith("-"):
            _package(word)


def _package(word: str) -> None:
    name = word.rpartition("/")[2]
    if name.endswith(".whl"):
        assert name.startswith("django_bgtasks-"), f"the wheel is called django_bgtasks, not {name}"
        return
    requirement = Requirement(word)
    name = canonicalize_name(requirement.name)
    if name == "django-bgtasks":
        extras = requirement.extras - set(_project().get("optional-dependencies", {}))
        assert not extras, f"our package has no extras {extras}"
    else:
        assert name in _requirements() or name in PACKAGES_ELSEWHERE, f"nothing here needs {name}"


@cache
def _project() -> dict[str, dict[str, list[str]]]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


@cache
def _requirements() -> set[str]:
    """The packages that ours, the site, its tests and its measurements depend on."""
    paths = [*ROOT.glob("requirements*.txt"), *ROOT.glob("bench/requirements*.txt")]
    lines = [
        line.partition("#")[0].strip() for path in paths for line in path.read_text().splitlines()
    ]
    lines += _project()["dependencies"]
    for extra in _project().get("optional-dependencies", {}).values():
        lines += extra
    return {canonicalize_name(Requirement(line).name) for line in lines if line[:1] not in "-"}


def _curl(words: list[str]) -> None:
    addresses = [word for word in words if re.match(r"https?://", word)]
    assert addresses, "no address"
    for address in addresses:
        path = urlsplit(address).path or "/"
        if path == "/healthz":  # a middleware answers that
            continue
        try:
            resolve(path)
        except Resolver404:
            raise AssertionError(f"the site has no page {path}") from None


def _kill(words: list[str]) -> None:
    for word in words:
        if re.fullmatch(r"-[A-Z0-9]+", word):
            assert hasattr(signal, f"SIG{word[1:]}"), f"there is no signal {word}"


def _uvicorn(words: list[str]) -> None:
    context = uvicorn.make_context("uvicorn", list(words))
    import_from_string(context.params["app"])


def _file(words: list[str]) -> None:
    for word in words:
        if not word.startswith("-"):
            assert (ROOT / word.partition("::")[0]).exists(), f"there is no file {word}"


def _pytest(words: list[str]) -> None:
    _file([word for before, word in zip(["", *words], words, strict=False) if before != "-k"])


def _first_file(words: list[str]) -> None:
    _file(words[:1])


def _honcho(words: list[str]) -> None:
    lines = set(re.findall(r"^(\w+):", (ROOT / "Procfile").read_text(), re.MULTILINE))
    assert set(words[1:]) <= lines, f"the Procfile has {lines}"


def _anything(words: list[str]) -> None:
    """The words are for the reader's own machine: a folder to go to, an environment to make."""


RULES: dict[str, Callable[[list[str]], None]] = {
    ".": _anything,
    "cat": _anything,
    "cd": _anything,
    "cp": _first_file,
    "curl": _curl,
    "django-admin": _manage,
    "echo": _anything,
    "exec": check_command,
    "exit": _anything,
    "honcho": _honcho,
    "kill": _kill,
    "make": _make,
    "manage.py": _manage,
    "mypy": _file,
    "pip": _pip,
    "pkill": _kill,
    "pytest": _pytest,
    "python": _python,
    "python3": _python,
    "ruff": _anything,
    "source": _anything,
    "uvicorn": _uvicorn,
}
MODULES: dict[str, Callable[[list[str]], None]] = {
    "django": _manage,
    "pip": _pip,
    "pytest": _pytest,
    "uvicorn": _uvicorn,
    "venv": _anything,
}
