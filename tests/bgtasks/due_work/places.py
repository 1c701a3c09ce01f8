"""Where a case of the contract runs: a project with workers, or this process with its database."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.harness.deployment import Deployment


class Seen(NamedTuple):
    """What is left of a call, and what an outsider has seen of its effect."""

    state: str
    effects: int


# Set by the fixture `due_work` for each case.
_deploy: Callable[[], Deployment]
_beside: Deployment
_folder: Path
_keys = itertools.count(1)


def begin(deploy: Callable[[], Deployment], beside: Deployment, folder: Path) -> None:
    global _deploy, _beside, _folder
    _deploy, _beside, _folder = cache(deploy), beside, folder


def project() -> Deployment:
    """A project with a database of its own, made when a case first asks for it."""
    return _deploy()


def beside() -> Deployment:
    """A project whose workers use the database of this process."""
    return _beside


def new_key() -> str:
    """The argument of a task, by which its effect is found."""
    return f"k{next(_keys)}"


def marker() -> Path:
    """A file that is there when a fault has happened; it is not there yet."""
    return _folder / f"fault-{next(_keys)}"
