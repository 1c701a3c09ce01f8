"""Several hosts on one machine: network namespaces that are joined by a switch."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness.deployment import Deployment
from tests.harness.needs import missing
from tests.harness.process import Process


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Host:
    """A host: a network and a name of its own.

    Attributes:
        address: its address in the network that all hosts are in.
        prefix: the command that runs another one on this host.
    """

    def __init__(self, network: str, number: int, name: str) -> None:
        self._switch, self._cable = f"{network}-switch", f"port{number}"
        self.name, self.address = name, f"10.99.0.{number}"
        self._namespace = f"{network}-{name}"
        _ip("netns", "add", self._namespace)
        here = ["-n", self._namespace]
        peer = ["peer", "name", self._cable, "netns", self._switch]
        _ip(*here, "link", "add", "eth0", "type", "veth", *peer)
        _ip("-n", self._switch, "link", "set", self._cable, "master", "switch", "up")
        _ip(*here, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip(*here, "link", "set", "eth0", "up")
        _ip(*here, "link", "set", "lo", "up")
        named = f'hostname {name} && exec "$@"'
        self.prefix = [
            *("ip", "netns", "exec", self._namespace),
            *("unshare", "--uts", "sh", "-c", named, name),
        ]

    def cut(self) -> None:
        """Pull its cable: nobody is told, and all packets are lost."""
        _ip("-n", self._switch, "link", "set", self._cable, "down")

    def join(self) -> None:
        """Plug the cable in again."""
        _ip("-n", self._switch, "link", "set", self._cable, "up")

    def worker(self, project: Deployment, *arguments: str, **more: str) -> Process:
        """Start process_tasks on this host."""
        folder = project.folder / self.name
        folder.mkdir(exist_ok=True)
        command = ["-m", "django", "process_tasks", "--sleep", "0.1", *arguments]
        environment = project.environment(TMPDIR=str(folder), **more)
        process = Process(*self.prefix, sys.executable, *command, python=False, env=environment)
        project.workers.append(process)
        return process


class Network:
    """Hosts that reach each other."""

    def __init__(self) -> None:
        self._name = f"bg{secrets.token_hex(3)}"
        self._hosts = 0
        _ip("netns", "add", f"{self._name}-switch")
        _ip("-n", f"{self._name}-switch", "link", "add", "switch", "type", "bridge")
        _ip("-n", f"{self._name}-switch", "link", "set", "switch", "up")

    def host(self, name: str) -> Host:
        self._hosts += 1
        return Host(self._name, self._hosts, name)

    def remove(self) -> None:
        for path in Path("/run/netns").glob(f"{self._name}-*"):
            _ip("netns", "delete", path.name)


@contextmanager
def network() -> Iterator[Network]:
    """Make a network. It takes the rights of the superuser and the program ``ip``."""
    if os.getuid() != 0 or not shutil.which("ip"):
        missing("network namespaces (as root, with iproute2)")
    made: Any = None
    try:
        made = Network()
        yield made
    except subprocess.CalledProcessError as error:
        missing(f"network namespaces ({error.stderr.strip()})")
    finally:
        if made:
            made.remove()
