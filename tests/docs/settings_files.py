"""Snippets that are part of a settings file: they assign names in capitals and do nothing else."""

from __future__ import annotations

import ast
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import background_task
from django.conf import global_settings, settings

from tests.docs import python
from tests.docs.snippets import ROOT, Snippet

# Settings that Django knows, but not in every version that we run on.
NEWER = {"TASKS", "MAILERS"}
# What Django reads at its start alone; the rest is in force for what follows on the page.
AT_START = {"INSTALLED_APPS", "MIDDLEWARE", "DATABASES", "LOGGING", "AUTH_USER_MODEL"}


def is_settings_file(tree: ast.Module) -> bool:
    """Whether the statements are those of a settings file: imports, and names in capitals."""
    rest = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return bool(rest) and all(
        isinstance(node, ast.Assign | ast.AugAssign) and all(map(_is_setting, _targets(node)))
        for node in rest
    )


def _targets(node: ast.Assign | ast.AugAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _is_setting(target: ast.expr) -> bool:
    if isinstance(target, ast.Subscript):  # STORAGES["default"] = ...
        target = target.value
    return isinstance(target, ast.Name) and target.id.isupper()


def check(snippet: Snippet) -> dict[str, Any]:
    """Run it, and look at each setting; returns those that can be in force at once."""
    namespace = _given(python.parse(snippet))
    python.execute(snippet, namespace)
    found = {name: value for name, value in namespace.items() if name.isupper()}
    for name, value in found.items():
        assert is_known(name), f"{snippet}: nobody reads a setting {name}"
        _import_our_names(value)
    _check_order(found.get("INSTALLED_APPS", []))
    return {n: v for n, v in found.items() if n not in AT_START and ... not in _leaves(v)}


def _given(tree: ast.Module) -> dict[str, Any]:
    """What a settings file already has where the snippet adds to it; else nothing."""
    names = [
        node.target.id
        for node in tree.body
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
    ]
    return {name: list(getattr(settings, name)) for name in names}


def is_known(name: str) -> bool:
    """Whether Django, django-background-tasks or bgtasks reads a setting of that name."""
    if name.startswith("BGTASKS_"):
        return bool(re.search(rf"\b{name}\b", _sources()))
    read = re.compile(rf"""settings(\.|, ["']){name}\b""")
    named = re.compile(rf'"{name}"')
    return (
        hasattr(global_settings, name)
        or name in NEWER
        or bool(read.search(_sources()))
        or bool(named.search((ROOT / "bgtasks" / "conf.py").read_text()))
    )


@cache
def _sources() -> str:
    folders = (ROOT / "bgtasks", Path(background_task.__file__).parent)
    paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return "\n".join(path.read_text() for path in paths if "tests" not in path.parts[-2:])


def _check_order(apps: list[Any]) -> None:
    names = [app for app in apps if app in {"bgtasks", "background_task"}]
    assert names != ["background_task", "bgtasks"], "in this order it is bgtasks.E001"


def _import_our_names(value: Any) -> None:
    for leaf in _leaves(value):
        if isinstance(leaf, str) and re.fullmatch(r"bgtasks(\.\w+)+", leaf):
            pkgutil.resolve_name(leaf)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from _leaves([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
