"""Real Mosquitto brokers for the tests: each on a free loopback port, stopped by its own process handle."""

import os
import random
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from plantops_cli.mosquitto.files.password_file import write_user

START_SECONDS = 30.0
USERNAME = "plantops_backend"
PASSWORD = "correct horse battery staple"  # a login of this machine's loopback, for the length of one test


@dataclass
class Mosquitto:
    """A broker that wants a login; ``start`` after ``stop`` gives the same port again.

    Args:
        folder: an empty folder for its files.
        extra: more lines for its configuration.
        listener: replaces the plain listener; may use ``{port}``.
    """

    folder: Path
    extra: str = ""
    listener: str = "listener {port} 127.0.0.1"
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a program of ours finds its way in."""
        return {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(self.port), "MQTT_BACKEND_PASSWORD": PASSWORD}

    def start(self) -> None:
        """Start the broker and wait until it answers."""
        password_file = self.folder / "passwords"
        write_user(password_file, USERNAME, PASSWORD.encode())
        config = self.folder / "mosquitto.conf"
        # started by root it would become the user mosquitto, who may not read a file of mode 0600
        user = "user root\n" if os.geteuid() == 0 else ""
        config.write_text(
            f"{self.listener.format(port=self.port)}\nallow_anonymous false\npassword_file {password_file}\n"
            f"{user}persistence false\n{self.extra}\n"
        )
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([executable(), "-c", config], stdout=log, stderr=log)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop the broker; its port stays ours to start again on."""
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=10)
            self.process = None

    def _wait_until_it_answers(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError(f"mosquitto did not start: {(self.folder / 'log').read_text()}")


def free_port() -> int:
    """Find a loopback port that nobody listens on now.

    It is none of those that the system gives to whoever connects: one of them could be taken before it is used,
    or while a broker that is to come back is away.
    """
    draw = random.SystemRandom()  # the tests side by side are not to draw alike
    while True:
        port = draw.randrange(10_000, 32_768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def executable() -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"])
    executable = shutil.which("mosquitto", path=path)
    assert executable, "mosquitto is not installed: make test installs it"
    return executable
