"""A RabbitMQ or a Redis of a test's own, which may be restarted."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import ephemeral_port_reserve

from tests.harness.needs import missing
from tests.harness.process import kill_tree
from tests.harness.waiting import eventually


class PrivateBroker:
    """A server of its own. The Redis saves nothing, so a restart loses its messages.

    Args:
        folder: for its files.

    Attributes:
        url: for whoever publishes and consumes.
    """

    scheme = program = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = ephemeral_port_reserve.reserve()
        self.url = f"{self.scheme}{self.port}/"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, cwd=self._folder,
                env={**os.environ, **self._environment()},
            )  # fmt: skip
        eventually(self._answers, f"{self.program} answers")

    def stop(self) -> None:
        """Have it end in its own way, and wait until it has."""
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        if self._process:
            kill_tree(self._process.pid)
            self._process.wait()
            self._process = None

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return {}

    def _answers(self) -> bool:
        raise NotImplementedError

    def _asks(self, question: bytes, answer: bytes) -> bool:
        """Whether the server gives this answer to a question."""
        try:
            with closing(socket.create_connection(("127.0.0.1", self.port), timeout=3)) as end:
                end.sendall(question)
                return end.recv(100).startswith(answer)
        except OSError:
            return False


class PrivateRedis(PrivateBroker):
    scheme, program = "redis://127.0.0.1:", "redis-server"

    def _command(self) -> list[str]:
        return [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]

    def _answers(self) -> bool:
        return self._asks(b"PING\r\n", b"+PONG")


class PrivateRabbitMQ(PrivateBroker):
    scheme, program = "amqp://guest:guest@127.0.0.1:", "rabbitmq-server"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._name = f"tests{secrets.token_hex(4)}@localhost"
        self._other_port = ephemeral_port_reserve.reserve()

    def _command(self) -> list[str]:
        # Debian's command of this name switches to the user rabbitmq. The program that it runs does
        # not.
        programs = [*Path("/usr/lib/rabbitmq").glob("*/rabbitmq-server"), Path(self.program)]
        return [str(programs[0])]

    def _environment(self) -> dict[str, str]:
        folder = str(self._folder)
        return {
            "HOME": folder,
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._other_port),
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{folder}/none",
        }

    def _answers(self) -> bool:
        return self._asks(b"AMQP\x00\x00\x09\x01", b"\x01")


BROKERS = {"redis": PrivateRedis, "rabbitmq": PrivateRabbitMQ}


@contextmanager
def private_broker(kind: str) -> Iterator[PrivateBroker]:
    """Run a broker; `kind` is one of `BROKERS`."""
    made = BROKERS[kind]
    if shutil.which(made.program) is None:
        missing(f"{made.program} (on Debian: apt-get install {made.program})")
    with tempfile.TemporaryDirectory(prefix="broker-", ignore_cleanup_errors=True) as name:
        broker = made(Path(name))
        try:
            broker.start()
            yield broker
        finally:
            broker.kill()
