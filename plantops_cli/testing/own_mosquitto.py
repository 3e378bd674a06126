"""A real Mosquitto of one's own, on a free port of 127.0.0.1, for as long as a test lasts."""

import os
import random
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from plantops_cli.errors import ConfigError
from plantops_cli.mosquitto.broker.executable import find_mosquitto, harmless_environment
from plantops_cli.mosquitto.files.password_file import write_user

START_SECONDS = 30.0
"""How long a busy machine may take to start the broker."""

_HOST = "127.0.0.1"
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02
_LINES_SHOWN = 3
# below those that the system gives to whoever connects
_LOWEST_PORT, _HIGHEST_PORT = 10_000, 32_767


@dataclass
class Mosquitto:
    """A broker; ``start`` after ``stop`` or ``kill`` gives the same port again.

    In a ``with`` block it runs. It is stopped by its own process handle, whatever else runs on the machine.

    Args:
        folder: an existing folder for its files.
        extra: more lines for its ``mosquitto.conf``.
        listener: the line of its listener; ``{port}`` stands for the port.
        logins: user names and passwords; without any everybody may connect.
        is_persistent: whether it keeps sessions, queues and retained messages across ``stop`` and ``start``.

    Attributes:
        host: the address it listens on.
        port: its TCP port.
        process: the process while it runs, else None.
    """

    folder: Path
    extra: str = ""
    listener: str = "listener {port} 127.0.0.1"
    logins: dict[str, str] = field(default_factory=dict, repr=False)
    is_persistent: bool = False
    host: str = field(default=_HOST, init=False)
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        """Start it, as ``start`` does."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, as ``stop`` does."""
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which ``load_settings`` finds it, with the first of its logins."""
        found = {"MQTT_HOST": self.host, "MQTT_PORT": str(self.port)}
        for username, password in list(self.logins.items())[:1]:
            found |= {"MQTT_BACKEND_USERNAME": username, "MQTT_BACKEND_PASSWORD": password}
        return found

    def login(self, username: str, password: str) -> None:
        """Let in who has this login, and nobody without any; a broker that runs is started anew.

        Args:
            username: the user name.
            password: the password, for which a test needs none that is a secret elsewhere.

        Raises:
            ConfigError: Mosquitto takes no such user name or password.
        """
        self.logins[username] = password
        if self.process:
            self.restart()

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            ConfigError: Mosquitto is not installed, or does not start.
        """
        config = self.folder / "mosquitto.conf"
        config.write_text(self.configuration())
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  # no shell, and nothing of others in the arguments
                [executable(), "-c", str(config)],
                env=harmless_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop it; its port stays the same."""
        self._end(kill=False)

    def kill(self) -> None:
        """End it as a crash does: by SIGKILL, so that it saves nothing any more."""
        self._end(kill=True)

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def configuration(self) -> str:
        """Write the password file, and return what is to stand in ``mosquitto.conf``."""
        lines = [self.listener.format(port=self.port), f"allow_anonymous {'false' if self.logins else 'true'}"]
        for username, password in self.logins.items():
            write_user(self.folder / "passwords", username, password.encode())
        if self.logins:
            lines.append(f"password_file {self.folder / 'passwords'}")
        if os.geteuid() == 0:
            # started by root it would become the user mosquitto, who may not read a file of mode 0600
            lines.append("user root")
        lines.append(f"persistence {'true' if self.is_persistent else 'false'}")
        if self.is_persistent:
            lines.append(f"persistence_location {self.folder}/")
        return "\n".join([*lines, self.extra, ""])

    def _end(self, *, kill: bool) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.kill() if kill else process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process and self.process.poll() is None:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
            except OSError:
                time.sleep(_POLL_SECONDS)
            else:
                return
        self.kill()
        said = (self.folder / "log").read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
        raise ConfigError(f"mosquitto does not start: {'; '.join(said) or 'it said nothing'}")


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody listens on now.

    It is none of those that the system gives to whoever connects: one of them could be taken before it is used,
    or while a broker that is to come back is away.
    """
    draw = random.SystemRandom()  # tests side by side are not to draw alike
    while True:
        port = draw.randint(_LOWEST_PORT, _HIGHEST_PORT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((_HOST, port))
            return port


def executable() -> str:
    """Return the path of the local ``mosquitto``.

    Raises:
        ConfigError: there is none.
    """
    found = find_mosquitto()
    if found is None:
        raise ConfigError(
            "mosquitto is not installed, and this test needs it: apt install mosquitto, or brew install mosquitto"
        )
    return found
