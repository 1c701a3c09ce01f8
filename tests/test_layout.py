"""The house's walls: who may import whom."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "bgtasks": {"bgtasks", "background_task", "django", "asgiref", "cronsim", "cryptography",
                "django_tasks", "pytest"},
    "signup": {"bgtasks", "django", "django_ratelimit", "asgiref", "PIL",
               "xlsxwriter", "signup"},
}  # fmt: skip
# Every module imports from below it alone.
LAYERS = [
    "management",
    "pytest_plugin",
    "testing",
    "mail",
    "apps",
    "admin",
    "launch",
    "checks",
    "supervisor",
    "child",
    "inprocess",
    "lease",
    "revocations",
    "cronjobs",
    "worker",
    "keeper",
    "recorder",
    "pacing",
    "eventloop",
    "workload",
    "dialects",
    "stock",
    "creators",
    "here",
    "executor",
    "hygiene",
    "tasks",
    "results",
    "waiters",
    "listening",
    "queue.rescue",
    "queue.outcomes",
    "queue.endings",
    "receivers",
    "queue.pruning",
    "queue.mails",
    "queue.progress",
    "queue.workers",
    "queue.enqueue",
    "queue.unique",
    "queue.creators",
    "queue.cron",
    "queue.claims",
    "queue.calloptions",
    "queue.notify",
    "queue.frontier",
    "queue.database",
    "queue.indexes",
    "queue.sequences",
    "models",
    "current",
    "declarations",
    "envelopes",
    "codec",
    "remote",
    "signals",
    "wakeup",
    "presence",
    "marks",
    "schedule",
    "cron",
    "logs",
    "policies",
    "conf",
    "options",
    "exceptions",
    "clock",
]


def layer(name: str) -> int | None:
    """Where a module of bgtasks stands; None for those that stand nowhere."""
    name = name.removeprefix("bgtasks.")
    return next((n for n, top in enumerate(LAYERS) if f"{name}.".startswith(f"{top}.")), None)


def imports(path: Path) -> set[str]:
    """The modules that a file of bgtasks imports from bgtasks, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("bgtasks.")}


def test_every_import_in_bgtasks_points_down() -> None:
    for path in (ROOT / "bgtasks").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT / "bgtasks").with_suffix("").parts)
        if path.name == "__init__.py" or name.startswith("migrations."):
            continue
        here = layer(name)
        assert here is not None, f"{name} is in no layer: add it to LAYERS"
        for other in imports(path):
            below = layer(other)
            assert below is None or below >= here, f"{name} imports {other}, above it"


def test_only_the_queue_writes_the_task_tables() -> None:
    methods = "update|delete|create|bulk_create|save"
    writes = re.compile(rf"\.(?:{methods})\(|cursor\.execute\(")
    # stock.py: what stands in for Task.save and new_task. Checks ask; a schedule is created.
    allowed = {"stock.py": 3, "checks.py": 2, "tasks.py": 1}
    for path in (ROOT / "bgtasks").glob("*.py"):
        found = writes.findall(path.read_text())
        assert len(found) <= allowed.get(path.name, 0), f"{path.name} writes: {found}"


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
