"""``make run`` from its Procfile on: both processes start, and Ctrl-C stops both."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import httpx

from tests.live.site import LiveSite, free_port
from tests.process import Process


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_procfile_starts_web_and_worker_and_one_interrupt_ends_all(site: LiveSite) -> None:
    port = free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = site.env | {"PORT": str(port), "HOST": "127.0.0.1", "PATH": path}
    honcho = Process("-m", "honcho", "start", "web", "worker", env=env)
    try:
        honcho.wait_for("Uvicorn running on")
        started = [honcho.wait_for(f"{name}.1 started") for name in ("web", "worker")]
        shells = [int(re.findall(r"pid=(\d+)", line)[0]) for line in started]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    finally:
        code = honcho.stop(signal.SIGINT)
    assert code == 130
    assert not any(is_alive(pid) for pid in shells)
    assert "Traceback" not in honcho.output
