"""The house's walls: who may import whom."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.harness import house_map
from tests.harness.imports import Imports

pytestmark = [pytest.mark.any_database, pytest.mark.once]

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "bgtasks": {"bgtasks", "background_task", "django", "asgiref", "celery", "cronsim",
                "cryptography", "django_q", "django_tasks", "kombu", "opentelemetry",
                "prometheus_client", "pytest", "rich"},
    "signup": {"bgtasks", "django", "django_ratelimit", "asgiref", "PIL",
               "xlsxwriter", "signup"},
    "site/lab": {"bgtasks", "config", "django", "csp", "asgiref", "PIL", "xlsxwriter", "httpx",
                 "aiosmtpd", "uvicorn", "waitress", "lab"},
}  # fmt: skip
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# What rows carry is data, and stays where a module goes.
DATA = {("bgtasks.queue.mails", "bgtasks.mail.send")}


def floors() -> list[str]:
    """The modules and packages right below bgtasks, from the top to the bottom, by the map."""
    return re.findall(r"^\| `(\w+)` \|", house_map.PAGE.read_text(), re.M)


@pytest.fixture(scope="module")
def ours() -> Imports:
    return Imports(ROOT / "bgtasks", DATA)


def test_every_import_in_bgtasks_points_down(ours: Imports) -> None:
    assert list(ours.upward(floors())) == []


def test_no_modules_of_bgtasks_name_each_other_in_a_circle(ours: Imports) -> None:
    assert ours.circle() == []


def test_the_map_shows_every_module_and_no_other(ours: Imports) -> None:
    there = {ours.floor(name).partition(".")[2] for name in ours.files} - {"", "migrations"}
    assert sorted(floors()) == sorted(there), "one row for each floor"
    shown = re.findall(r"^- `([\w.]+)`: ", house_map.PAGE.read_text(), re.M)
    inside = {name.partition(".")[2] for name in ours.files if name.count(".") > 1}
    inside = {name for name in inside if not name.startswith("migrations.")}
    assert sorted(shown) == sorted(inside), "one line for each module of a package"


def test_the_map_says_of_a_module_what_its_docstring_says() -> None:
    page = house_map.PAGE.read_text()
    assert page == house_map.refreshed(page), "run `make map`"


def test_few_modules_stand_at_the_root() -> None:
    at_the_root = list((ROOT / "bgtasks").glob("*.py"))
    assert len(at_the_root) <= 16, "a new module belongs into a package: see the map"


@pytest.mark.parametrize(
    "line",
    [
        "import wrong.top",
        "from wrong import top",
        "from wrong.top import THING",
        "def hidden():\n    from wrong.top import THING",
        "from .. import top",
        "from ..top import THING",
        "import_module('wrong.top')",
        "NAMED = 'wrong.top.THING'",
        "if not TYPE_CHECKING:\n    pass\nelse:\n    import os\nimport wrong.top",
    ],
)
def test_an_import_that_points_up_is_found(tmp_path: Path, line: str) -> None:
    wrong = write(tmp_path, {"top": "", "low/__init__": "", "low/inner": line})
    assert list(wrong.upward(["top", "low"])) == [
        "wrong.low.inner names wrong.top, which stands above it"
    ]
    assert list(wrong.upward(["low", "top"])) == []


@pytest.mark.parametrize(
    "line",
    [
        '"""The tasks of wrong.top are another matter."""',
        "if TYPE_CHECKING:\n    from wrong.top import THING",
        "NAMED = 'right.top.THING'",
    ],
)
def test_what_is_no_import_is_none(tmp_path: Path, line: str) -> None:
    wrong = write(tmp_path, {"top": "", "low": line})
    assert list(wrong.upward(["top", "low"])) == []


def test_a_circle_is_found_also_inside_functions(tmp_path: Path) -> None:
    wrong = write(
        tmp_path,
        {"one": "from wrong import two", "two": "def hidden():\n    from wrong.one import THING"},
    )
    assert set(wrong.circle()) == {"wrong.one", "wrong.two"}


def write(folder: Path, sources: dict[str, str]) -> Imports:
    """A package of these modules."""
    for name, source in {"__init__": "", **sources}.items():
        path = folder / "wrong" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return Imports(folder / "wrong")


def test_no_class_has_over_twenty_methods() -> None:
    for path in (ROOT / "bgtasks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                methods = [each for each in node.body if isinstance(each, FUNCTIONS)]
                assert len(methods) <= 20, f"{path.name}: {node.name} has {len(methods)}"


def test_only_the_queue_writes_the_task_tables() -> None:
    methods = "update|delete|create|bulk_create|save"
    writes = re.compile(rf"\.(?:{methods})\(|cursor\.execute\(")
    # Checks only ask, by a cursor; a patch stands in for Task.save; a repeating call makes a
    # TaskSchedule, which is no row; a screen is updated.
    allowed = {"checks.py": 2, "patches/models.py": 2, "calls.py": 1, "management/screen.py": 1}
    for path in (ROOT / "bgtasks").rglob("*.py"):
        name = path.relative_to(ROOT / "bgtasks").as_posix()
        if name.startswith(("queue/", "migrations/")):
            continue
        found = writes.findall(path.read_text())
        assert len(found) <= allowed.get(name, 0), f"{name} writes: {found}"


def modules(path: Path) -> set[str]:
    """The full names of all modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def imported(path: Path) -> set[str]:
    """The packages that a file imports."""
    return {name.partition(".")[0] for name in modules(path)}


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_stands_below_it(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        unknown = imported(path) - ALLOWED[package] - set(sys.stdlib_module_names)
        assert not unknown, f"{path.relative_to(ROOT)} imports {unknown}"


def test_the_lab_uses_bgtasks_as_any_project_would() -> None:
    named = {name for path in (ROOT / "site" / "lab").rglob("*.py") for name in modules(path)}
    assert {name for name in named if name.partition(".")[0] in {"bgtasks", "background_task"}} == {
        "bgtasks",
        "bgtasks.models",
    }


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
