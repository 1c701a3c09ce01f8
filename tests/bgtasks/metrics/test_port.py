"""The metrics of a real worker's port, and of what real workers have run."""

from __future__ import annotations

import re
import signal

import httpx

from tests.harness.deployment import Deployment
from tests.harness.process import Process
from tests.harness.waiting import eventually


def address_of(worker: Process) -> str:
    [address] = re.findall(r"http://\S+", worker.wait_for("Metrics: http://"))
    return address


def asked(address: str) -> str:
    return httpx.get(address, timeout=30).raise_for_status().text


def test_what_several_processes_have_run_is_told_by_each_port(project: Deployment) -> None:
    project.run("[tasks.work(n, queue='q') for n in range(20)]; tasks.fail_often('a')")
    project.drain("--processes", "2")
    ports = [address_of(project.worker("--metrics-port", "0")) for _ in range(2)]
    done = (
        r'bgtasks_runs_total\{outcome="succeeded",queue="q",task="tests.bgtasks.project.tasks.work"'
        r"\} 20.0"
    )
    for port in ports:
        text = asked(port)
        assert re.search(done, text), text
        assert re.search(r'bgtasks_latency_seconds_count\{queue="q",task="\S+work"\} 20.0', text)
        assert re.search(
            r'bgtasks_runs_total\{outcome="failed",queue="",\S+fail_often"\} 1.0', text
        )
        assert 'bgtasks_workers{state="alive"} 2.0' in asked(port)


def test_the_port_is_this_hosts_alone_and_ends_with_the_worker(project: Deployment) -> None:
    worker = project.worker("--metrics-port", "0")
    address = address_of(worker)
    assert address.startswith("http://127.0.0.1:")
    worker.wait_for("is ready")
    assert worker.stop() == 0
    eventually(lambda: is_closed(address), "the port closed")


def test_the_port_ends_also_with_a_worker_that_is_killed(project: Deployment) -> None:
    worker = project.worker("--metrics-port", "0")
    address = address_of(worker)
    asked(address)
    worker.stop(signal.SIGKILL)
    eventually(lambda: is_closed(address), "the port closed")


def is_closed(address: str) -> bool:
    try:
        httpx.get(address, timeout=5)
    except httpx.TransportError:
        return True
    return False


def test_a_port_in_use_ends_the_worker_with_a_word(project: Deployment) -> None:
    used = address_of(project.worker("--metrics-port", "0")).rpartition(":")[2].partition("/")[0]
    second = project.worker("--metrics-port", used)
    assert second.wait() == 1
    assert "Give another --metrics-port" in second.output
    assert "Traceback" not in second.output


WITHOUT = """
import sys
sys.modules["prometheus_client"] = None
from django.core.management import call_command
try:
    call_command("process_tasks", "--metrics-port", "0")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_the_package_it_says_what_to_install(project: Deployment) -> None:
    said = project.run(WITHOUT)
    assert said.startswith("CommandError ")
    assert "pip install" in said
    assert "django-bgtasks[metrics]" in said
