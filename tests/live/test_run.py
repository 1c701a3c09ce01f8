"""``make run``, and the Procfile under it: all processes start, and all end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from tests.harness import needs
from tests.harness.process import ROOT, Process
from tests.harness.servers import free_port
from tests.harness.site import LiveSite

pytestmark = pytest.mark.any_database


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def started(process: Process) -> list[int]:
    """The processes that honcho has started, once the web server is up."""
    process.wait_for("Uvicorn running on")
    lines = [process.wait_for(f"{name}.1 started") for name in ("web", "worker", "lab")]
    return [int(re.findall(r"pid=(\d+)", line)[0]) for line in lines]


def test_the_procfile_starts_all_and_one_interrupt_ends_them(site: LiveSite) -> None:
    port = free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = site.env | {"PORT": str(port), "HOST": "127.0.0.1", "PATH": path}
    honcho = Process("-m", "honcho", "start", "web", "worker", "lab", env=env)
    try:
        pids = started(honcho)
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    finally:
        code = honcho.stop(signal.SIGINT)
    assert code == 130
    assert not any(is_alive(pid) for pid in pids)
    assert "Traceback" not in honcho.output


def make_run(tmp_path: Path, port: int | None = None) -> tuple[Process, Path, int]:
    """Start ``make run`` in a copy of this repository; returns also the copy, and the port."""
    environment = Path(sys.prefix)
    if not (environment / ".run").exists():
        needs.missing("an environment that make has made: run `make test`")
    clone = tmp_path / "clone"
    ignored = shutil.ignore_patterns(".git", ".venv*", "var", ".env", ".*_cache", "__pycache__")
    shutil.copytree(ROOT, clone, ignore=ignored)
    port = port or free_port()
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    make = Process(
        "make", "run", f"PORT={port}", f"VENV={environment}",
        env=kept | {"PYTHONUNBUFFERED": "1"}, python=False, cwd=clone, session=True,
    )  # fmt: skip
    return make, clone, port


def test_make_run_names_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        make, _, _ = make_run(tmp_path, port)
        assert make.wait() != 0
    assert f"Port {port} is taken. Try another: make run PORT={port + 1}" in make.output
    assert "started" not in make.output


def test_make_run_does_not_blame_the_port_for_a_dead_worker(tmp_path: Path) -> None:
    make, _, _ = make_run(tmp_path)
    try:
        started(make)
        [worker] = re.findall(r"\(process (\d+)\)", make.wait_for("is ready"))
        os.kill(int(worker), signal.SIGKILL)
        assert make.wait() != 0
    finally:
        make.stop(signal.SIGHUP)
    assert "A process ended by itself" in make.output
    assert "taken" not in make.output


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "terminal closed"])
def test_make_run_says_where_to_look_and_leaves_nothing_behind(
    end: signal.Signals, tmp_path: Path
) -> None:
    make, clone, port = make_run(tmp_path)
    try:
        pids = started(make)
        assert f"http://127.0.0.1:{port}/admin/   log in as admin, password admin" in make.output
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as visitor:
            assert visitor.get("/healthz").status_code == 200
            page = visitor.get("/password/reset/")
            [token] = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
            fields = {"csrfmiddlewaretoken": token, "email": "admin@localhost"}
            visitor.post("/password/reset/", data=fields)
        make.wait_for(" signup.tasks.send_password_reset (attempt")
        [mail] = (clone / "var" / "mail").iterdir()
        assert mail.suffix == ".eml"
        assert f"http://127.0.0.1:{port}/password/reset/" in mail.read_text()
    finally:
        make.stop(end)
    assert not any(is_alive(pid) for pid in pids)
    assert "Traceback" not in make.output
