"""The fixture `bgtasks` for pytest: what `bgtasks.testing` has.

pytest loads this by its entry point, also in projects without Django and before there are
settings. So nothing is imported before a test asks for the fixture.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest


@pytest.fixture
def bgtasks() -> ModuleType:
    """Run what waits, and look at what was enqueued: the functions of `bgtasks.testing`.

    It gives no access to the database; the test has its own, by the mark ``django_db``, a fixture
    or a `TestCase`.
    """
    return import_module("bgtasks.testing")
