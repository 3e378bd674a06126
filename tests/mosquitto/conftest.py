"""A real Mosquitto on a free loopback port, run by us or by the user mosquitto."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.unprivileged_broker import launch

START_SECONDS = 30.0
PORT_ATTEMPTS = 5


class Mosquitto(NamedTuple):
    process: subprocess.Popen[bytes]
    port: int

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def connack(self, username: str, password: bytes) -> int:
        """Log in with MQTT 3.1.1 and return the CONNACK's return code: 0 accepted, 5 refused."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(_connect_packet(username, password))
            answer = connection.recv(4, socket.MSG_WAITALL)
        assert answer[:1] == b"\x20", f"no CONNACK but {answer!r}"
        return answer[3]


StartMosquitto = Callable[[Path], Mosquitto]


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[StartMosquitto]:
    with ExitStack() as running:

        def start(password_file: Path) -> Mosquitto:
            for _ in range(PORT_ATTEMPTS):
                broker = _launch(password_file, tmp_path / "mosquitto.conf")
                running.callback(_stop, broker.process)
                if _answers(broker):
                    return broker
            pytest.fail("mosquitto did not start")

        yield start


StartUnprivileged = Callable[..., Mosquitto]


@pytest.fixture
def reachable_folder() -> Iterator[Path]:
    """A folder that the user mosquitto can reach, which tmp_path is not."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def start_unprivileged(reachable_folder: Path) -> Iterator[StartUnprivileged]:
    """Starts a broker that becomes the user mosquitto; takes what ``launch`` does."""
    with ExitStack() as running:

        def start(*prefix: str, allow_anonymous: str = "false") -> Mosquitto:
            process, port = launch(reachable_folder, *prefix, allow_anonymous=allow_anonymous)
            broker = Mosquitto(process, port)
            running.callback(_stop, process)
            assert _answers(broker)
            return broker

        yield start


def _launch(password_file: Path, config: Path) -> Mosquitto:
    executable = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    assert executable, "mosquitto is not installed"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # started by root it would become the user mosquitto, who may not read a file of mode 0600
    user = "user root\n" if os.geteuid() == 0 else ""
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {password_file}\n"
        f"{user}persistence false\n"
    )
    quiet = subprocess.DEVNULL
    return Mosquitto(subprocess.Popen([executable, "-c", config], stdout=quiet, stderr=quiet), port)


def _answers(broker: Mosquitto) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while broker.process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", broker.port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return broker.process.poll() is None
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=10)


def _connect_packet(username: str, password: bytes) -> bytes:
    def prefixed(data: bytes) -> bytes:
        return struct.pack(">H", len(data)) + data

    body = prefixed(b"MQTT") + b"\x04\xc2" + struct.pack(">H", 60)
    body += prefixed(b"") + prefixed(username.encode()) + prefixed(password)
    size, length = len(body), b""
    while size > 127:
        length, size = length + bytes([size % 128 | 128]), size // 128
    return b"\x10" + length + bytes([size]) + body
