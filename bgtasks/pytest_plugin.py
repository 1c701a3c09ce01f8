"""The pytest fixture `bgtasks`, which gives a test the module `bgtasks.testing`.

pytest loads this by its entry point, also in projects without Django, and before Django's settings
are there. So nothing of bgtasks is imported before a test asks for the fixture.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest


@pytest.fixture
def bgtasks() -> ModuleType:
    """The module `bgtasks.testing`, which runs waiting rows and lists what was enqueued.

    It gives no access to the database. The test needs that by the mark ``django_db``, by a fixture
    or by a `TestCase`.
    """
    return import_module("bgtasks.testing")
