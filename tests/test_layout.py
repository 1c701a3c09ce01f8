"""The house's walls: who may import whom."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "bgtasks": {"background_task", "django"},
    "signup": {"bgtasks", "background_task", "django", "django_ratelimit", "asgiref", "PIL",
               "xlsxwriter", "signup"},
}  # fmt: skip


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_stands_below_it(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        unknown = imported(path) - ALLOWED[package] - set(sys.stdlib_module_names)
        assert not unknown, f"{path.relative_to(ROOT)} imports {unknown}"


def test_tasks_come_from_bgtasks_alone() -> None:
    tasks = (ROOT / "signup" / "tasks.py").read_text()
    assert "from bgtasks import background" in tasks
    assert "background_task" not in tasks


def test_site_is_no_package() -> None:
    assert not (ROOT / "site" / "__init__.py").exists()


def test_django_would_write_no_migration_into_an_installed_package() -> None:
    from django.apps import apps

    field = apps.get_app_config("background_task").default_auto_field
    assert field == "django.db.models.AutoField"
